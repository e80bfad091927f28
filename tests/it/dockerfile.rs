//! Apps with a Dockerfile. (buildah passes on what a command prints while the command runs, so those whose output is looked at
//! wait a moment.)

use std::{path::PathBuf, process::Command};

use crate::support::{apps::version, command::run, images::Base, waiting::eventually, world::World};

/// A repository with this Dockerfile, in which `BASE` is the base image.
fn app(world: &World, base: &Base, name: &str, dockerfile: &str) -> PathBuf {
    let folder = world.repository(name, &[("page/index.html", "page 1"), ("secret.txt", "not for the image")]);
    world.commit(&folder, &[("Dockerfile", &dockerfile.replace("BASE", &base.0)), (".dockerignore", "*.txt\n.git\n")]);
    folder
}

/// A Dockerfile with two stages, a port of its own and a user of its own; then a Procfile beside it.
#[test]
fn a_dockerfile_is_built_and_its_port_is_served() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let folder = app(
        &world,
        &base,
        "boxed",
        "# syntax=docker/dockerfile:1\nFROM BASE AS build\nARG GREETING=none\nCOPY . /src\n\
         RUN --mount=type=cache,target=/cache ls -A /src && mkdir /out && cp /src/page/index.html /out/ \\\n  \
         && echo \"$GREETING user $(id -u)\" > /out/built.html && sleep 1\n\
         FROM BASE\nCOPY --from=build --link /out /www\nRUN <<EOF\necho heredoc > /www/doc.html\nEOF\n\
         WORKDIR /www\nUSER 4711\nEXPOSE 3000\nCMD exec httpd -f -p $PORT -h /www\n",
    );
    world.paas(&["apps:create", "boxed"]).success();
    world.paas(&["config:set", "boxed", "--build", "GREETING=hello"]).success();
    let printed = world
        .push(&folder)
        .success()
        .prints("-----> Building Dockerfile")
        .prints("-----> FROM")
        .prints("Process types: web");
    let listed = |name: &str| printed.err.lines().any(|line| line.trim_start_matches("remote:").trim() == name);
    assert!(listed("page") && !printed.all().contains("secret.txt"), "{}", printed.all());
    assert!(!printed.all().contains("LABEL"), "{}", printed.all());
    let url = world.url("boxed");
    world.answers(&url, "page 1");
    assert_eq!(world.get(&format!("{url}/built.html")).unwrap().1.trim(), "hello user 0");
    assert_eq!(world.get(&format!("{url}/doc.html")).unwrap().1.trim(), "heredoc");
    world.paas(&["ports:list", "boxed"]).success().prints("3000");
    let instance = world.running_containers("instance").remove(0);
    let id = run(Command::new("docker").args(["exec", &instance, "id", "-u"])).success().out;
    assert_eq!(id.trim(), "4711", "the image's own user");

    world.commit(&folder, &[("page/index.html", "page 2")]);
    world.push(&folder).success().prints("Using cache").prints("0.0 MB of them new");
    world.answers(&url, "page 2");
    // What lies on the engine is nobody's base image, least of all another app's.
    let own = format!("paas/{}/boxed:v1", world.server_id());
    for (name, text) in
        [("base", format!("FROM {own}\n")), ("copy", format!("FROM BASE\nCOPY --from={own} /www /www\n"))]
    {
        let spying = app(&world, &base, name, &format!("{text}CMD sleep 1000\n"));
        world.push(&spying).failure().prints(&own).prints("registry");
    }
    world.paas(&["releases:rollback", "boxed"]).success();
    world.answers(&url, "page 1");

    world.commit(&folder, &[("Procfile", "web: exec httpd -f -p $PORT -h /www/.\nworker: sleep 1000\n")]);
    world.push(&folder).success().prints("Process types: web, worker");
    world.answers(&url, "page 2");
    world
        .paas(&["apps:rebase", "boxed"])
        .failure()
        .prints("its image was built from a Dockerfile, which uses no stack");
    world.paas(&["apps:rebase", "--all"]).success();
    // Without a cache, the step that lists the files runs in each build.
    for _ in 0..2 {
        let printed = world.paas(&["ps:rebuild", "boxed"]).success().prints("\n       Procfile\n");
        assert!(!printed.all().contains("Using cache"), "{}", printed.all());
    }
    world.paas(&["builds:clear-cache", "boxed"]).success();
    world.commit(&folder, &[("page/index.html", "page 3")]);
    let printed = world.push(&folder).success();
    assert!(!printed.all().contains("Using cache"), "{}", printed.all());
    // An app that names a buildpack is built without the Dockerfile.
    world.paas(&["buildpacks:set", "boxed", "paas/procfile"]).success();
    world.commit(&folder, &[("Procfile", &version(7))]);
    world.push(&folder).success().prints("Reading the Procfile");
    world.answers(&url, "version-7");
    // It was the first app.
    let disk = world.data().join("disks/1-dockerfile.ext4");
    eventually("the disk of the Dockerfile is removed", || (!disk.exists()).then_some(()));
    world.paas(&["apps:destroy", "boxed", "--force"]).success();
}

/// Instructions and flags that are common in Dockerfiles.
const SHAPES: &str = "# syntax=docker/dockerfile:1
ARG IMAGE=BASE
FROM --platform=$BUILDPLATFORM ${IMAGE} AS build
ARG TARGETOS TARGETARCH TOKEN
SHELL [\"/bin/sh\", \"-euc\"]
RUN --mount=type=bind,source=page,target=/borrowed \\
    --mount=type=tmpfs,target=/scratch \\
    cp -r /borrowed /www && echo \"for $TARGETOS\" > /www/os.html
RUN cat > /www/doc.html <<-EOF
\theredoc for $TARGETOS
\tEOF
RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN | tr a-z A-Z > /www/secret.html; \\
    ls -A /borrowed /scratch 2>/dev/null | awk '!/:$/ && NF' | awk 'END { print NR \" left\" }' > /www/gone.html
RUN --mount=type=cache,target=/cache echo x >> /cache/n; cat /cache/n | tr -d '\\n' > /www/cached.html
COPY --chown=4711:4711 . /all/
COPY --link --chmod=0600 <<ONE page/index.html /files/
first
ONE
RUN ls -A /all > /www/files.html
RUN ls -ln /files/ | awk '{ print $1 $NF }' > /www/modes.html
RUN ls -dn /all/page | awk '{ print $3 }' > /www/owner.html
HEALTHCHECK --interval=5s --retries=3 CMD false

FROM build AS unused
RUN false

FROM scratch
ARG NUMBER=3001
ENV LISTEN=$NUMBER
COPY --from=build /bin/busybox /bin/httpd
COPY --from=build /www /www
USER 4711:4711
VOLUME /data
ONBUILD RUN false
LABEL traefik.enable=true org.opencontainers.image.title=shapes
EXPOSE 9000/udp $LISTEN 3100/tcp
ENTRYPOINT [\"/bin/httpd\", \"-f\", \"-h\", \"/www\"]
CMD [\"-p\", \"3001\"]
";

/// What Dockerfiles commonly contain, in one at a path of its own; variables are build arguments and secrets, and are in no
/// layer and no history; labels that other programs obey do not reach the container.
#[test]
#[ignore = "slow"]
fn common_instructions_are_built() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let folder = app(&world, &base, "shapes", "FROM scratch\n");
    let ignore = [("keep.txt", "kept"), (".dockerignore", "# all but\n**\n!page\n!keep.txt\n")];
    world.commit(&folder, &[&ignore[..], &[("docker/prod", &SHAPES.replace("BASE", &base.0))]].concat());
    world.paas(&["apps:create", "shapes"]).success();
    world.paas(&["config:set", "shapes", "--build", "TOKEN=tell-nobody"]).success();
    world.paas(&["builds:set", "shapes", "dockerfile", "docker/prod"]).success();
    world
        .push(&folder)
        .success()
        .prints("-----> Building docker/prod")
        .prints("this image declares VOLUME /data: storage:create")
        .prints("the label traefik.enable is not kept")
        .prints("Process types: web");
    let url = world.url("shapes");
    world.answers(&url, "page 1");
    for (page, says) in [
        ("os", "for linux"),
        ("doc", "heredoc for linux"),
        ("secret", "TELL-NOBODY"),
        ("gone", "0 left"),
        ("cached", "x"),
        ("files", "keep.txt\npage"),
        ("modes", "-rw-------ONE\n-rw-------index.html"),
        ("owner", "4711"),
    ] {
        let found = world.get(&format!("{url}/{page}.html")).unwrap().1;
        assert!(found.contains(says), "{page}: {found:?}");
    }
    let instance = world.running_containers("instance").remove(0);
    let inspected = run(Command::new("docker").args(["inspect", &instance])).success().out;
    let history = run(Command::new("docker").args(["history", "--no-trunc", &world.image_of("shapes")])).success().out;
    assert!(!inspected.contains("traefik") && inspected.contains("org.opencontainers.image.title"), "{inspected}");
    assert!(!history.contains("tell-nobody"), "{history}");
    // The cache mount is that of the build before.
    world.commit(
        &folder,
        &[("keep.txt", "again"), ("docker/prod", &SHAPES.replace("BASE", &base.0).replace("echo x", "echo y"))],
    );
    world.push(&folder).success();
    eventually("the cache mount was kept", || {
        world.get(&format!("{url}/cached.html")).unwrap().1.contains("xy").then_some(())
    });

    world.paas(&["builds:set", "shapes", "target", "unused"]).success();
    world.push_again(&folder).failure().prints("docker/prod line 25, RUN false: the command ended with exit status 1");
    world.paas(&["builds:set", "shapes", "target", "nowhere"]).success();
    world.push_again(&folder).failure().prints("docker/prod: it has no stage nowhere: name another one");
    world.paas(&["builds:set", "shapes", "dockerfile", "docker/none"]).success();
    world.push_again(&folder).failure().prints("shapes has no file docker/none, which builds:set names");
}

/// What buildah does otherwise than Docker, or says in its own words.
#[test]
#[ignore = "slow"]
fn instructions_mean_what_they_mean_to_docker() {
    let base = Base::new();
    let world = World::new();
    let onbuild = format!("{}-onbuild", base.0);
    let script = format!(
        "printf 'FROM {}\\nONBUILD RUN echo of the base > /onbuild.html\\n' | docker build -q -t {onbuild} -",
        base.0
    );
    run(Command::new("sh").args(["-ec", &script])).success();
    world.paas(&["images:offer", &onbuild]).success();
    run(Command::new("docker").args(["rmi", &onbuild])).success();
    let serve = "FROM BASE\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN --network=none true\n\
                 RUN --mount=type=secret,id=PEM cp /run/secrets/PEM /pem.html\nRUN printf abc\n\
                 CMD exec httpd -f -p $PORT -h /\n";
    let based = |text: &str| text.replace("BASE", &onbuild);
    let folder = world.repository("docker", &[("Dockerfile", &based(serve))]);
    world.paas(&["apps:create", "docker"]).success();
    world.paas(&["config:set", "docker", "--build", "PEM=one\ntwo"]).success();
    world.push(&folder).success().prints("Dockerfile line 3: --network=none has no effect");
    let url = world.url("docker");
    world.answers(&format!("{url}/onbuild.html"), "of the base");
    world.answers(&format!("{url}/pem.html"), "one\ntwo");
    let instance = world.running_containers("instance").remove(0);
    let labels = ["inspect", "--format", "{{json .Config.Labels}}", &instance];
    let labels = run(Command::new("docker").args(labels)).success().out;
    assert!(labels.contains(r#"\"/bin/busybox\",\"sh\",\"-c\""#), "{labels}");

    let push = |text: &str| {
        world.commit(&folder, &[("Dockerfile", &based(text))]);
        world.push(&folder)
    };
    push("FROM BASE\nRUN printf abc\nRUN false\n")
        .failure()
        .prints("-----> RUN false")
        .prints("Dockerfile line 3, RUN false: the command ended with exit status 1");
    push("FROM BASE\nADD https://10.99.98.97/x.git#main /x\n").failure().prints(
        "Dockerfile line 2, ADD https://10.99.98.97/x.git#main /x: the repository cannot be read (unable to access",
    );
    push("FROM BASE\nARG V\nFROM $V\n").failure().prints("Dockerfile line 3, FROM $V: the variable is empty");
    push("FROM docker-daemon:BASE\n")
        .failure()
        .prints("is neither an image of a registry nor one that the operator offers");
    std::fs::remove_file(folder.join("Dockerfile")).unwrap();
    world.commit(&folder, &[("Dockerfile/index.html", "x")]);
    world.push(&folder).failure().prints("Dockerfile is a folder and not a file: make it a file");
}

/// A mistake in a Dockerfile is reported in one line, and nothing is deployed.
#[test]
#[ignore = "slow"]
fn a_dockerfile_that_fails_is_explained() {
    let base = Base::new();
    let mut world = World::with("[build]\nmemory_mib = 128\ntimeout_seconds = 600\n");
    world.offer(&base);
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connecting = format!(
        "FROM BASE\nRUN host=$(ip route | awk '/default/ {{print $3}}'); echo connecting to $host; \
         nc -w 3 $host {} </dev/null || exit 3\n",
        listener.local_addr().unwrap().port()
    );
    let folder = app(&world, &base, "broken", "FROM BASE\nRUN echo about to fail; sleep 1; exit 3\nCMD x\n");
    // An instance that listens on the wrong port is given up after 5 seconds instead of a minute.
    world.commit(&folder, &[("app.json", r#"{"healthchecks":{"web":[{"attempts":10,"wait":0.5}]}}"#)]);
    world
        .push(&folder)
        .failure()
        .prints("about to fail")
        .prints("Dockerfile line 2, RUN echo about to fail; sleep 1; exit 3: the command ended with exit status 3")
        .prints("Nothing is deployed yet");
    for (dockerfile, says) in [
        (
            "FROM BASE\nRUN --mount=type=secret,id=a,required cat /x\n",
            "Dockerfile line 2, RUN --mount=type=secret,id=a,required cat /x: there is no secret a: set a config var",
        ),
        ("RUN x\n", "Dockerfile: it has no FROM: begin it with a base image"),
        ("", "Dockerfile: it is empty"),
        ("FROM BASE\n\nNONSENSE x\n", "Dockerfile line 3, NONSENSE x: there is no such instruction"),
        ("FROM BASE\nRUN --nonsense x\n", "Dockerfile line 2, RUN --nonsense x: RUN only supports"),
        (
            "FROM BASE\nCOPY secret.txt /x\n",
            "line 2, COPY secret.txt /x: secret.txt does not exist in the app, or .dockerignore",
        ),
        (
            "FROM registry.invalid/x:0\nCMD x\n",
            "line 1, FROM registry.invalid/x:0: its registry cannot be reached (no such host)",
        ),
        ("FROM BASE\nRUN cat <<EOF\nx\n", "Dockerfile line 2: the end of the heredoc that begins here is missing"),
        (
            "FROM BASE AS a\nFROM BASE\nCOPY --from=a /x /x\n",
            "Dockerfile line 3, COPY --from=a /x /x: x does not exist there",
        ),
        ("FROM BASE\nRUN nonsense\n", "line 2, RUN nonsense: the command ended with exit status 127"),
        (
            "FROM BASE\nADD https://registry.invalid/x /x\n",
            "line 2, ADD https://registry.invalid/x /x: the address cannot be reached",
        ),
        ("FROM BASE\nCOPY . /x\n", "the Dockerfile has no command to run: add a CMD"),
        ("FROM BASE\nRUN head -c 300000000 /dev/zero | tail -c 299999999 > /dev/null\n", "ran out of memory (128 MiB)"),
        ("FROM BASE\nEXPOSE 3000\nCMD exec httpd -f -p 4000\n", "it listens on port 4000, not on $PORT (3000)"),
        ("FROM BASE\nCMD exec httpd -f -p 127.0.0.1:8080\n", "it listens on port 8080 of localhost only"),
        ("FROM BASE\nCMD [\"gone\"]\n", "cannot start web: gone: No such file or directory"),
        ("FROM BASE\nENTRYPOINT [\"/cnb/process/web\"]\n", "/cnb/process/web is the launcher of an image that"),
    ] {
        world.commit(&folder, &[("Dockerfile", &dockerfile.replace("BASE", &base.0))]);
        world.push(&folder).failure().prints(says);
    }
    world.commit(&folder, &[("Dockerfile", &connecting.replace("BASE", &base.0))]);
    world.push(&folder).failure().prints("connecting to 10.").prints("the command ended with exit status 3");
    let accepted = listener.accept().map(|_| "a connection").map_err(|error| error.kind());
    assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock), "a build reached a port of the host");

    world.reconfigure("timeout_seconds = 600", "timeout_seconds = 3");
    world.commit(&folder, &[("Dockerfile", &format!("FROM {}\nRUN sleep 1000\n", base.0))]);
    world.push(&folder).failure().prints("stopped after 3 seconds");
    assert_eq!(world.git(&folder, &["ls-remote", "paas"]).success().out, "", "nothing is deployed");
    let left = format!("label=paas.server={}", world.server_id());
    eventually("no step runs, and no instance", || {
        let running = run(Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &left])).success().out;
        running.trim().is_empty().then_some(())
    });
}
