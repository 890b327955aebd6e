//! Compiles the C++ beside `src/native.rs`, and sets the rpath, so that executables and tests of this package find libtorch
//! without `LD_LIBRARY_PATH`.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=native");
    // torch-sys tells its direct dependants where it links libtorch from.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(libraries) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    let headers = headers(&libraries);
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false) // libtorch's headers have many
        .includes([headers.join("torch/csrc/api/include"), headers])
        .files(["native/native.cpp", "native/dropout.cpp", "native/kernels.cpp"])
        .compile("sure_native");
}

/// The folder of libtorch's headers: where torch-sys looks for them, or beside its libraries.
fn headers(libraries: &Path) -> PathBuf {
    let named = |name: &str| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    };
    let roots = [named("LIBTORCH_INCLUDE"), named("LIBTORCH"), libraries.parent().map(Path::to_path_buf)];
    let mut folders = roots.into_iter().flatten().map(|root| root.join("include"));
    let found = folders.find(|folder| folder.join("ATen/ATen.h").is_file());
    found.expect("libtorch's headers (ATen/ATen.h), in LIBTORCH_INCLUDE/include, LIBTORCH/include or beside its libraries")
}
