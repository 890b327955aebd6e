"""Runs `sure` over caches in a folder and on an S3 server, with faults of the server, of the network and of the objects.

check.py SURE
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import servers

HERE = Path(__file__).parent
SLOW = os.environ.get("RUN_SLOW_TESTS") == "1"
# Secrets of this test; none of them may be found anywhere afterwards.
CANARIES = {"writer": "canary-writer-5f1c9a", "reader": "canary-reader-77aa10", "wrong": "canary-wrong-0badf00d"}
KEYS = {"writer": "WRITERID", "reader": "READERID"}


class Bed:
    """A corpus, signing keys, and projects with a store each."""

    def __init__(self, sure, folder):
        self.sure, self.folder = sure, folder
        self.outputs = []
        self.started = []
        self.plain("synth", "speech_commands", folder / "corpus")
        shutil.copy(HERE / "shards.toml", folder / "shards.toml")
        self.trusted, self.secret = {}, {}
        for name in ("ci", "other"):
            file = folder / f"{name}.key"
            line = self.plain("cache", "key", name, "--out", file).stdout
            self.trusted[name] = line.split('"')[1]
            # The file goes: the key comes from the environment only, so that its text may be looked for everywhere.
            self.secret[name] = file.read_text().strip()
            file.unlink()

    def plain(self, *words):
        command = [str(self.sure), *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=self.environment({}))
        self.outputs.append(done.stdout + done.stderr)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return done

    def environment(self, more):
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {"HOME": str(home), "PATH": os.environ["PATH"], "RUST_LOG": "trace", "RUST_BACKTRACE": "1", **more}

    def project(self, name, settings):
        """Makes a project with an empty store; `settings` is the section [cache]."""
        project = self.folder / name
        shutil.rmtree(project / ".sure", ignore_errors=True) if not (project / ".sure").exists() else self.remove(project / ".sure")
        project.mkdir(exist_ok=True)
        cache = "\n".join(f"{key} = {value}" for key, value in settings.items())
        (project / "sure.toml").write_text(f'[corpora]\nspeech_commands = "{self.folder}/corpus"\n[cache]\n{cache}\n')
        return project

    @staticmethod
    def remove(folder):
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)

    def settings(self, url, endpoint=None, **more):
        settings = {"url": f'"{url}"', "write": "true", "upload": '"all"', "recordings": "true", **more}
        settings["trusted"] = f'["{self.trusted["ci"]}"]'
        if endpoint:
            settings |= {"endpoint": f'"{endpoint}"', "region": '"us-east-1"'}
        return settings

    def secrets(self, user="writer", secret=None, key="ci"):
        environment = {"AWS_ACCESS_KEY_ID": KEYS[user], "AWS_SECRET_ACCESS_KEY": CANARIES[secret or user]}
        return environment | ({"SURE_CACHE_KEY": self.secret[key]} if key else {})

    def start(self, project, *words, secrets=None):
        command = [str(self.sure), *map(str, words)]
        process = subprocess.Popen(
            command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(secrets or {})
        )
        self.started = [started for started in self.started if started.poll() is None] + [process]
        return process

    def run(self, project, *words, secrets=None, code=0):
        """Runs `sure` and returns what it printed and how long it took."""
        words = words or ("run", self.folder / "shards.toml")
        begun = time.perf_counter()
        process = self.start(project, *words, secrets=secrets)
        out, err = process.communicate(timeout=300)
        secs = time.perf_counter() - begun
        self.outputs.append(out + err)
        expect(process.returncode == code, f"{' '.join(map(str, words))}: exit {process.returncode}, not {code}\n{out}\n{err}")
        return out + err, secs

    @staticmethod
    def artifacts(project):
        """Artifacts of a store: those that are there, and those that are left in the cache."""
        folders = [project / ".sure/objects", project / ".sure/away"]
        return sorted({str(path.relative_to(folder)) for folder in folders for path in folder.glob("*/*")})

    def left(self, project):
        return len(list((project / ".sure/away").glob("*/*")))

    def bring(self, project, secrets):
        """Reads every artifact, so that what was left in the cache comes."""
        for stage in ("shards", "targets"):
            paths, _ = self.run(project, "path", f"{self.folder / 'shards.toml'}:{stage}", secrets=secrets)
            for path in paths.splitlines():
                expect(any(Path(path).iterdir()), f"{path} is empty")
        expect(self.left(project) == 0, "artifacts are left in the cache")


def expect(condition, text):
    if not condition:
        raise SystemExit(f"FAILED: {text}")


def warnings(text):
    return [line for line in text.splitlines() if line.startswith("warning:")]


def ran(text):
    """Number of nodes that ran, after the plan."""
    return int(text.split(" to run,")[0].rsplit(" ", 1)[1])


def said(name, *values):
    print(f"{name}: {', '.join(map(str, values))}", flush=True)


def share(bed, name, settings, secrets):
    """Fills a cache from one store and reads it into another."""
    writer, reader = bed.project(f"{name}-w", settings), bed.project(f"{name}-r", settings)
    _, filling = bed.run(writer, secrets=secrets)
    text, secs = bed.run(reader, secrets=secrets)
    expect("results from the shared cache" in text and ran(text) == 0, f"{name}: the reader ran something\n{text}")
    expect(warnings(text) == [], text)
    expect(bed.artifacts(writer) == bed.artifacts(reader), f"{name}: other artifacts")
    expect(bed.artifacts(reader) == bed.local, f"{name}: other artifacts than without a cache")
    left = bed.left(reader)
    expect(left == 16, f"{name}: {left} artifacts are left in the cache, not the 16 shards")
    bed.run(reader, "store", "verify")
    # Nothing is to do, with and without the cache; what is read comes.
    for words in ([], ["--offline"]):
        text, _ = bed.run(reader, "run", bed.folder / "shards.toml", *words, secrets=secrets)
        expect(ran(text) == 0 and bed.left(reader) == left, f"{name}: again\n{text}")
    bed.bring(reader, secrets)
    expect(bed.artifacts(reader) == bed.local, f"{name}: other artifacts were brought")
    bed.run(reader, "store", "verify")
    said(f"{name}: fill and read", f"{filling:.2f} s", f"{secs:.2f} s", f"{left} of {len(bed.local)} artifacts left in the cache")


def planned(bed, name, settings, secrets):
    """A plan shows what the cache would supply, and takes nothing."""
    project = bed.project(f"{name}-p", settings)
    text, _ = bed.run(project, "plan", bed.folder / "shards.toml", secrets=secrets)
    expect("17 of the reused are in the shared cache" in text and ran(text) == 0, f"{name}: a plan\n{text}")
    expect(len(bed.artifacts(project)) <= 2, f"{name}: a plan took results over\n{text}")
    text, _ = bed.run(project, "plan", bed.folder / "shards.toml", "--offline", secrets=secrets)
    expect("shared cache" not in text and ran(text) == 17, f"{name}: a plan without the cache\n{text}")
    said(f"{name}: plan", "17 results of the cache are shown")


def together(bed, settings, secrets):
    """Two writers and two readers at once."""
    projects = [bed.project(f"together{number}", settings) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda project: bed.run(project, secrets=secrets)[0], projects))
    for project, text in zip(projects, done):
        expect(warnings(text) == [] and bed.artifacts(project) == bed.local, text)
    said("four at once", "equal artifacts")


def rights(bed, settings):
    """A reader's credentials, a wrong secret, an untrusted writer."""
    project = bed.project("reader", settings | {"url": '"s3://sure/empty"'})
    text, _ = bed.run(project, secrets=bed.secrets("reader"))
    expect(len(warnings(text)) == 1 and "uploads nothing" in text, f"a reader that writes\n{text}")
    out, _ = bed.run(project, "cache", "check", secrets=bed.secrets("reader"), code=1)
    expect("BAD write" in out, out)
    project = bed.project("wrong", settings)
    text, _ = bed.run(project, secrets=bed.secrets(secret="wrong"))
    expect(len(warnings(text)) == 1, f"a wrong secret\n{text}")
    text, secs = bed.run(bed.project("none", settings), secrets={"SURE_CACHE_KEY": bed.secret["ci"]})
    expect(len(warnings(text)) == 1 and ("no credentials" in text or "AWS_ACCESS_KEY_ID is not set" in text), f"no secret\n{text}")
    out, _ = bed.run(project, "cache", "check", secrets={"SURE_CACHE_KEY": bed.secret["ci"]}, code=1)
    expect("BAD read" in out and "AWS_ACCESS_KEY_ID" in out, out)
    project = bed.project("other", settings | {"url": '"s3://sure/other"'})
    bed.run(project, secrets=bed.secrets(key="other"))
    project = bed.project("wary", settings | {"url": '"s3://sure/other"', "write": "false"})
    text, _ = bed.run(project, secrets=bed.secrets(key=None))
    expect("do not count" in text and ran(text) > 0, f"an untrusted writer\n{text}")
    said("rights", "reader, wrong secret, no secret and untrusted writer cost one line each")


def network(bed, server):
    """Faults of the network: none fails a run, each costs one warning."""
    with servers.proxy(server) as proxy:
        settings = bed.settings("s3://sure/main", proxy.url)
        base = min(bed.run(bed.project("alone", settings), "run", bed.folder / "shards.toml", "--offline")[1] for _ in range(3))
        closed = f"http://127.0.0.1:{servers.free_ports(1)[0]}"
        for fault in ("absent", "hang", "403", "503", "delay"):
            proxy.mode = "pass" if fault == "absent" else fault
            proxy.drop()
            here = settings | ({"endpoint": f'"{closed}"'} if fault == "absent" else {})
            best = float("inf")
            for _ in range(3):  # a busy machine makes some of them slow
                project = bed.project("faulty", here)
                text, secs = bed.run(project, secrets=bed.secrets())
                expect(bed.artifacts(project) == bed.local, f"{fault}: other artifacts\n{text}")
                expected = 0 if fault == "delay" else 1
                expect(len(warnings(text)) == expected, f"{fault}: {text}")
                best = min(best, secs)
            secs = best
            if fault != "delay":
                expect(secs <= base + 1.3, f"{fault}: {secs:.2f} s beside {base:.2f} s without a cache")
            said(fault, f"{secs:.2f} s", f"{base:.2f} s without a cache", f"{len(warnings(text))} warning")
        # The connection is cut after more and more bytes: some results come, others are made.
        for after in (400, 3_000, 20_000, 100_000, 400_000):
            proxy.mode, proxy.after = "cut", after
            proxy.drop()
            project = bed.project("cut", settings)
            text, _ = bed.run(project, secrets=bed.secrets())
            expect(bed.artifacts(project) == bed.local and len(warnings(text)) <= 1, text)
        # The server goes while a run uses it.
        for fault in ("hang", "503"):
            proxy.mode = "delay"
            proxy.drop()
            project = bed.project("midway", settings)
            process = bed.start(project, "run", bed.folder / "shards.toml", secrets=bed.secrets())
            time.sleep(base / 2)
            proxy.mode = fault
            proxy.drop()
            out, err = process.communicate(timeout=120)
            bed.outputs.append(out + err)
            expect(process.returncode == 0 and bed.artifacts(project) == bed.local, f"{fault} midway\n{err}")
            expect(len(warnings(err)) <= 1, err)
        said("network", "every run complete with equal artifacts")


def killed(bed, settings, secrets):
    """A writer that is killed at random moments leaves nothing that a reader stumbles over."""
    settings = settings | {"url": '"s3://sure/killed"'}
    project = bed.project("killed", settings)
    kills = 20 if SLOW else 6
    for number in range(kills):
        process = bed.start(project, "run", bed.folder / "shards.toml", secrets=secrets)
        time.sleep(0.1 + 1.5 * random.Random(number).random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reader = bed.project("after-kill", settings)
        text, _ = bed.run(reader, secrets=bed.secrets("reader", key=None))
        expect(bed.artifacts(reader) == bed.local and "damaged" not in text, text)
    bed.run(project, secrets=secrets)
    out, _ = bed.run(project, "cache", "push", "--all", secrets=secrets)
    expect("0 wait" in out, out)
    text, _ = bed.run(bed.project("after-kill", settings), secrets=bed.secrets("reader", key=None))
    expect(ran(text) == 0, text)
    said("killed", f"{kills} kills")


def damaged(bed):
    """Flips a bit of every object of a cache in a folder, or cuts it, again and again."""
    folder = bed.folder / "bucket"
    settings = bed.settings(f"file://{folder}")
    bed.run(bed.project("whole", settings), secrets=bed.secrets())
    whole = bed.folder / "bucket.whole"
    shutil.copytree(folder, whole)
    wanted = 10_000 if SLOW else 300
    chance, count, rounds = random.Random(1), 0, 0
    while count < wanted:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "sure-cache.json":
                bytes = bytearray(path.read_bytes())
                at = chance.randrange(len(bytes))
                if chance.random() < 0.25:
                    bytes = bytes[:at]
                else:
                    bytes[at] ^= 1 << chance.randrange(8)
                # Index files keep their names, and hits need them: only every tenth round damages them, too.
                if path.is_relative_to(folder / "i") and rounds % 10:
                    continue
                path.write_bytes(bytes)
                count += 1
        project = bed.project("damaged", settings | {"write": "false"})
        text, _ = bed.run(project, secrets=bed.secrets())
        expect(bed.artifacts(project) == bed.local, f"damage was accepted\n{text}")
        expect(warnings(text) == [], text)
        # Targets that are made again read all shards.
        text, _ = bed.run(project, "run", bed.folder / "shards.toml", "--force", "targets", secrets=bed.secrets())
        expect(bed.artifacts(project) == bed.local and bed.left(project) == 0, f"damage was accepted\n{text}")
        expect(warnings(text) == [], text)
        bed.run(project, "store", "verify")
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        rounds += 1
    said("damaged", f"{count} objects in {rounds} runs, none accepted")


def ignoring(bed):
    """A server that ignores conditions."""
    with servers.ignoring() as endpoint:
        settings = bed.settings("s3://sure/x", endpoint)
        project = bed.project("ignoring", settings)
        out, _ = bed.run(project, "cache", "check", secrets=bed.secrets(), code=1)
        expect("BAD conditions  ignored" in out, out)
        share(bed, "ignoring", settings, bed.secrets())


def commands(bed, settings, secrets):
    """`sure cache` and its mistakes."""
    project = bed.project("commands", settings)
    out, _ = bed.run(project, "cache", "check", secrets=secrets)
    expect("ok  conditions  honoured" in out and "BAD" not in out, out)
    out, _ = bed.run(project, "cache", "du", secrets=secrets)
    expect("traces" in out, out)
    out, _ = bed.run(project, "cache", "gc", secrets=secrets)
    expect("would go" in out, out)
    bed.run(project, "cache", "gc", "--yes", secrets=secrets)
    text, _ = bed.run(bed.project("after-gc", settings), secrets=secrets)
    expect(ran(text) == 0, f"after a collection\n{text}")
    bad = bed.project("bad", settings | {"aws_secret_access_key": '"x"'})
    out, _ = bed.run(bad, "plan", bed.folder / "shards.toml", code=2)
    expect("secrets do not belong in sure.toml" in out, out)
    bad = bed.project("bad", settings | {"url": '"s3://user:word@bucket"'})
    out, _ = bed.run(bad, "plan", bed.folder / "shards.toml", code=2)
    expect("contains a user" in out, out)
    # A folder that cannot be one, with and without the right to write.
    (bed.folder / "file").write_text("")
    for write in ("true", "false"):
        bad = bed.project("bad", settings | {"url": f'"file://{bed.folder}/file/cache"', "write": write})
        bad_settings = (bad / "sure.toml").read_text().replace(f'endpoint = {settings["endpoint"]}\nregion = "us-east-1"\n', "")
        (bad / "sure.toml").write_text(bad_settings)
        text, _ = bed.run(bad)
        expect(len(warnings(text)) == 1 and bed.artifacts(bad) == bed.local, f"an impossible folder\n{text}")
        out, _ = bed.run(bad, "cache", "check", code=2)
        expect(f"{bed.folder}/file/cache" in out, out)
    bed.run(project, "cache", "forget", "--writer", "ci", "--yes", secrets=secrets)
    text, _ = bed.run(bed.project("after-forget", settings), secrets=bed.secrets("reader", key=None))
    expect(ran(text) > 0, text)
    said("commands", "check, du, gc, forget")


def canaries(bed):
    """No secret is in any file or output."""
    texts = list(CANARIES.values()) + [secret.split(":")[1] for secret in bed.secret.values()]
    for output in bed.outputs:
        for text in texts:
            expect(text not in output, f"a secret in an output: {output[:500]}")
    files = 0
    for path in bed.folder.rglob("*"):
        if path.is_file() and path.name != "s3.json":  # the server's own list of secrets
            content = path.read_bytes()
            files += 1
            for text in texts:
                expect(text.encode() not in content, f"a secret in {path}")
    said("canaries", f"0 in {files} files and {len(bed.outputs)} outputs")


def main(sure):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    weed = Path(sys.executable).with_name("weed")
    with tempfile.TemporaryDirectory(prefix="sure-cache-") as folder:
        bed = Bed(Path(sure), Path(folder))
        alone = bed.folder / "local"
        alone.mkdir()
        (alone / "sure.toml").write_text(f'[corpora]\nspeech_commands = "{folder}/corpus"\n')
        bed.run(alone)
        bed.local = bed.artifacts(alone)
        try:
            share(bed, "folder", bed.settings(f"file://{folder}/shared"), bed.secrets())
            planned(bed, "folder", bed.settings(f"file://{folder}/shared"), bed.secrets())
            secrets = {user: (KEYS[user], CANARIES[user]) for user in KEYS}
            with servers.seaweed(weed, bed.folder / "weed", secrets) as server:
                settings = bed.settings("s3://sure/main", server)
                share(bed, "s3", settings, bed.secrets())
                together(bed, bed.settings("s3://sure/together", server), bed.secrets())
                rights(bed, settings)
                network(bed, server)
                killed(bed, settings, bed.secrets())
                commands(bed, settings, bed.secrets())
            ignoring(bed)
            damaged(bed)
            canaries(bed)
        finally:
            for process in bed.started:
                servers.end(process)
            subprocess.run(["chmod", "-R", "u+w", folder], check=False)
    print("the shared cache: all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
