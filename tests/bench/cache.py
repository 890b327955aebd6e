"""Measures the shared cache on an S3 server of this machine, next to rclone and `aws s3 cp`.

cache.py SURE SHARE FOLDER [QUICKSTART]

SURE: the program. SHARE: the example `share` of the crate `cache`. FOLDER: for what is measured; emptied at the end.
QUICKSTART: a project in which `sure run keyword_spotting` is complete, with the further arguments of that run after it.
Needs the environment of tests/cache/run.sh, and prints one line a figure. A contender that is not installed is left out.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "cache"))
import servers  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "3"))
KEYS = {"writer": ("BENCHID", "bench-secret")}


def timed(command, environment, cwd):
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    secs = time.perf_counter() - begun
    if done.returncode != 0:
        sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return secs, done.stdout + done.stderr


def remove(folder):
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


class Bench:
    def __init__(self, sure, share, folder, server):
        self.sure, self.share, self.folder, self.server = sure, share, folder, server
        self.environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1"}
        self.environment |= {"AWS_ACCESS_KEY_ID": KEYS["writer"][0], "AWS_SECRET_ACCESS_KEY": KEYS["writer"][1]}
        key = folder / "key"
        self.trusted = subprocess.run([sure, "cache", "key", "bench", "--out", key], capture_output=True, text=True, check=True).stdout
        self.environment["SURE_CACHE_KEY"] = key.read_text().strip()

    def ours(self, source, number):
        stores = self.folder / "stores"
        remove(stores)
        _, text = timed([self.share, f"s3://sure/ours{number}", source, stores, self.server], self.environment, self.folder)
        if "1 uploaded" not in text or "equal" not in text:
            sys.exit(text)
        return float(text.split("upload ")[1].split()[0]), float(text.split("download ")[1].split()[0])

    def rclone(self, source, number):
        remote = f":s3,provider=Other,env_auth=true,endpoint='{self.server}',region=us-east-1:sure/rclone{number}"
        environment = {name: value for name, value in self.environment.items() if name != "AWS_CA_BUNDLE"}
        return timed(["rclone", "copy", "--transfers", "4", source, remote], environment, self.folder)[0]

    def aws(self, source, number):
        command = ["aws", "--endpoint-url", self.server, "s3", "cp", "--quiet", "--recursive", source, f"s3://sure/aws{number}"]
        return timed(command, self.environment | {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}, self.folder)[0]

    def uploads(self):
        chance = random.Random(1)
        for name, files, size in (("1 file of 256 MB", 1, 256_000_000), ("1000 files of 27 kB", 1000, 27_000)):
            source = self.folder / "source"
            source.mkdir()
            for number in range(files):
                (source / f"{number:04}").write_bytes(chance.randbytes(size))
            taken = {"ours": [], "ours, download": [], "rclone": [], "aws s3 cp": []}
            for number in range(ROUNDS):
                tag = f"-{files}-{number}"
                up, down = self.ours(source, tag)
                taken["ours"].append(up)
                taken["ours, download"].append(down)
                for contender, run in (("rclone", self.rclone), ("aws s3 cp", self.aws)):
                    if shutil.which(contender.split()[0]):
                        taken[contender].append(run(source, tag))
            for contender, secs in taken.items():
                if secs:
                    print(f"upload {name}, {contender}: {statistics.median(secs):.2f} s (of {len(secs)})", flush=True)
            shutil.rmtree(source)

    def quickstart(self, project, arguments):
        """The quickstart's result from an empty store with a full cache."""
        here = self.folder / "quickstart"
        here.mkdir()
        text = (project / "sure.toml").read_text().replace('"corpus"', f'"{project.resolve()}/corpus"')
        cache = f'[cache]\nurl = "s3://sure/quick"\nendpoint = "{self.server}"\nregion = "us-east-1"\n{self.trusted}\n'
        cache += 'write = true\nupload = "all"\nrecordings = true\n'
        (here / "sure.toml").write_text(text + cache)
        # The store as it is, so that the cache is filled without making anything.
        shutil.copytree(project / ".sure", here / ".sure", symlinks=True)
        secs, text = timed([self.sure, "cache", "push", "--all"], self.environment, here)
        print(f"quickstart, push: {secs:.2f} s; {text.strip().splitlines()[-1]}", flush=True)
        command = [self.sure, "run", "keyword_spotting", *arguments]
        taken = []
        for _ in range(ROUNDS):
            remove(here / ".sure")
            secs, text = timed(command, self.environment, here)
            if "0 to run" not in text:
                sys.exit(text)
            taken.append(secs)
        line = next(line for line in text.splitlines() if "from the shared cache" in line)
        print(f"quickstart, empty store and full cache: {statistics.median(taken):.2f} s (of {ROUNDS}); {line}", flush=True)
        again = statistics.median(timed(command, self.environment, here)[0] for _ in range(ROUNDS))
        print(f"quickstart, nothing to do: {again:.3f} s", flush=True)
        version = statistics.median(timed([self.sure, "--version"], self.environment, here)[0] for _ in range(20))
        print(f"sure --version: {version * 1000:.1f} ms", flush=True)
        remove(here)


def main(sure, share, folder, quickstart=None, *arguments):
    folder = Path(folder).resolve()
    folder.mkdir(parents=True)
    weed = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sure/cache-tests/bin/weed"
    try:
        with servers.seaweed(weed, folder / "weed", KEYS) as server:
            bench = Bench(Path(sure).resolve(), Path(share).resolve(), folder, server)
            if quickstart:
                bench.quickstart(Path(quickstart), arguments)
            bench.uploads()
    finally:
        remove(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
