//! Building without a server: the commands of `docs/buildpacks.md`, run in order.

use std::{fs, path::PathBuf, process::Command};

use crate::support::{
    command::{CommandOutput, repository_root, run},
    world::server_id,
};

/// A working folder with a cache of its own, and `paas` in the search path.
struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/cache/paas").unwrap();
        for folder in ["bin", "work"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_paas"), dir.path().join("bin/paas")).unwrap();
        Self { dir }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn sh(&self, script: &str) -> CommandOutput {
        let root = repository_root();
        let lifecycle = root.join("target/static/x86_64-unknown-linux-gnu/release/lifecycle");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", self.dir.path().join("bin").display());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(self.work()).env("PATH", path);
        command.env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        command.env("PAAS_ASSETS_LIFECYCLE", lifecycle).env("PAAS_ASSETS_BUILDPACKS", root.join("buildpacks"));
        command.env("PAAS_OUTBOUND_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt");
        run(&mut command)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let data = self.dir.path().join("cache/paas");
        if !data.exists() {
            return;
        }
        let id = server_id(&data);
        let on_engine = || {
            let lists = format!(
                "for of in 'ps --all' 'network ls'; do docker $of --quiet --filter label=paas.server=local-{id}; done; \
                 docker images --all | grep paas/local-{id} || true"
            );
            self.sh(&lists).success().out
        };
        let before = on_engine();
        let purged = self.sh("paas purge --local");
        let (after, exists) = (on_engine(), data.exists());
        let removed = !before.is_empty() && after.is_empty() && purged.ok && !exists;
        assert!(
            std::thread::panicking() || removed,
            "before: {before}, after: {after}, data folder exists: {exists}: {}",
            purged.all()
        );
    }
}

/// The guide for authors of buildpacks works from the first to the last command; `buildpack test` reports the mistakes of a
/// buildpack.
#[test]
fn the_guide_for_authors_works() {
    let sandbox = Sandbox::new();
    let guide = fs::read_to_string(repository_root().join("docs/buildpacks.md")).unwrap();
    let blocks: Vec<_> = guide.split("```sh run\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "the guide has fewer commands than it had");
    let printed: Vec<_> = blocks.iter().map(|block| sandbox.sh(block).success().all()).collect();
    assert!(printed[1].contains("ok    the process listens after"), "{}", printed[1]);
    assert!(printed[2].contains("-----> Using Wren 1.1"), "{}", printed[2]);
    assert!(printed[3].contains("web (default): wren main.wren"), "{}", printed[3]);
    assert!(printed[5].contains("JSON::XS 4."), "{}", printed[5]);

    // The packaged buildpack builds, as a file and as a folder.
    sandbox.sh("paas buildpack package wren packed").success();
    assert!(sandbox.work().join("packed/bin/bp").is_file());
    for buildpack in ["wren.cnb", "packed"] {
        sandbox
            .sh(&format!("paas build hello --buildpack {buildpack} --tag paas-test/wren && docker rmi paas-test/wren"))
            .success();
    }
    sandbox.sh("paas buildpack package wren wren.cnb").failure().prints("already exists");
    sandbox.sh("paas buildpack new acme/wren").failure().prints("already exists");
    sandbox.sh("paas buildpack new ../x").failure().prints("is not allowed");
    sandbox.sh("paas build nowhere").failure().prints("cannot find nowhere");

    // A composite buildpack is a folder, too: its package.toml says where its parts are.
    let about = "api = \"0.10\"\n[buildpack]\nid = \"acme/all\"\nversion = \"1.0.0\"\n[[order]]\n[[order.group]]\nid = \"acme/wren\"\n";
    fs::create_dir(sandbox.work().join("all")).unwrap();
    fs::write(sandbox.work().join("all/buildpack.toml"), about).unwrap();
    fs::write(sandbox.work().join("all/package.toml"), "[[dependencies]]\nuri = \"../wren\"\n").unwrap();
    sandbox.sh("paas buildpack package all all.cnb").success();
    for buildpack in ["all", "all.cnb"] {
        let build = format!("paas build hello --buildpack {buildpack} --clear-cache --tag paas-test/wren");
        sandbox.sh(&format!("{build} && docker rmi paas-test/wren")).success().prints("-----> Using Wren 1.1");
    }

    // Caches of folders that were not built for a long time are removed.
    let old = "cd ../cache/paas; for n in {10..19}; do touch -d 2020-01-$n build-$n.image disks/build-$n.ext4; done";
    sandbox.sh(old).success();
    sandbox.sh("paas build hello --buildpack packed --tag paas-test/wren && docker rmi paas-test/wren").success();
    let left = sandbox.sh("cd ../cache/paas; ls *.image | wc -l; ls disks/build-10.ext4 || echo removed").success();
    assert!(left.out.starts_with("10\n") && left.out.ends_with("removed\n"), "{}", left.out);

    // A layer that differs in each build, and a process that does not listen.
    let spoil = "sed -i 's|^bp process.*|date +%N > \"$layers/runtime/when\"; bp process \"$layers\" web -- sleep 1|' wren/bin/build";
    sandbox
        .sh(&format!("{spoil}; paas buildpack test wren --app hello"))
        .failure()
        .prints("these layers differ: acme/wren:runtime")
        .prints("web ended with status 0 before it listened on port 8080");
}
