//! Apps with a Dockerfile.

use std::{path::PathBuf, process::Command};

use crate::support::{apps::version, command::run, images::Base, waiting::eventually, world::World};

/// A repository with this Dockerfile, in which `BASE` is the base image.
fn app(world: &World, base: &Base, name: &str, dockerfile: &str) -> PathBuf {
    let folder = world.repository(name, &[("page/index.html", "page 1"), ("secret.txt", "not for the image")]);
    world.commit(&folder, &[("Dockerfile", &dockerfile.replace("BASE", &base.0)), (".dockerignore", "*.txt\n.git\n")]);
    folder
}

/// Images of the engine with this server's label.
fn images(world: &World) -> usize {
    let label = format!("label=paas.server={}", world.server_id());
    let listed = run(Command::new("docker").args(["images", "--all", "--quiet", "--filter", &label])).success().out;
    listed.lines().count()
}

/// A Dockerfile with two stages, a port of its own and a user of its own; then a Procfile beside it.
#[test]
fn a_dockerfile_is_built_and_its_port_is_served() {
    let base = Base::new();
    let world = World::new();
    let folder = app(
        &world,
        &base,
        "boxed",
        "# syntax=docker/dockerfile:1\nFROM BASE AS build\nARG GREETING=none\nCOPY . /src\n\
         RUN --mount=type=cache,target=/cache ls -A /src && mkdir /out && cp /src/page/index.html /out/ \\\n  \
         && echo \"$GREETING user $(id -u)\" > /out/built.html\n\
         FROM BASE\nCOPY --from=build --link /out /www\nRUN <<EOF\necho heredoc > /www/doc.html\nEOF\n\
         WORKDIR /www\nUSER 4711\nEXPOSE 3000\nCMD exec httpd -f -p $PORT -h /www\n",
    );
    world.paas(&["apps:create", "boxed"]).success();
    world.paas(&["config:set", "boxed", "--build", "GREETING=hello"]).success();
    let printed = world
        .push(&folder)
        .success()
        .prints("-----> Building the Dockerfile")
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

    let kept = images(&world);
    world.commit(&folder, &[("page/index.html", "page 2")]);
    world.push(&folder).success().prints("Using cache");
    world.answers(&url, "page 2");
    assert!(images(&world) <= kept + 1, "images of the older build are removed: {kept}, then {}", images(&world));
    // The engine has the images of all apps; a Dockerfile may not use them.
    let own = format!("paas/{}/boxed:v1", world.server_id());
    for (name, text) in
        [("base", format!("FROM {own}\n")), ("copy", format!("FROM BASE\nCOPY --from={own} /www /www\n"))]
    {
        let spying = app(&world, &base, name, &format!("{text}CMD sleep 1000\n"));
        world.push(&spying).failure().prints("is an image that paas itself made; name one of a registry");
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
    world.paas(&["builds:clear-cache", "boxed"]).success();
    assert_eq!(images(&world), 0);
    // Without a cache, the step that lists the files runs in each build, and each build asks the registry for the base image.
    for _ in 0..2 {
        let printed = world.paas(&["ps:rebuild", "boxed"]).success().prints("\n       Procfile\n");
        let printed = printed.prints(&format!("the build uses the {} that the engine has", base.0));
        assert!(
            !printed.all().contains("       .dockerignore") && !printed.all().contains("       .paas"),
            "{}",
            printed.all()
        );
    }

    // An app that names a buildpack is built without the Dockerfile.
    world.paas(&["buildpacks:set", "boxed", "paas/procfile"]).success();
    world.commit(&folder, &[("Procfile", &version(7))]);
    world.push(&folder).success().prints("Reading the Procfile");
    world.answers(&url, "version-7");
    world.paas(&["apps:destroy", "boxed", "--force"]).success();
    eventually("no image of the app is left", || (images(&world) == 0).then_some(()));
}

/// Instructions and flags that are common in Dockerfiles, most of them of BuildKit.
const SHAPES: &str = "# syntax=docker/dockerfile:1
ARG IMAGE=BASE
FROM --platform=$BUILDPLATFORM ${IMAGE} AS build
ARG TARGETOS TARGETARCH
SHELL [\"/bin/sh\", \"-euc\"]
RUN --mount=type=bind,source=page,target=/borrowed \\
    cp -r /borrowed /www && echo \"for $TARGETOS\" > /www/os.html
RUN cat > /www/doc.html <<-EOF
\theredoc for $TARGETOS
\tEOF
COPY --chown=4711:4711 . /all/
RUN ls -A /all > /www/files.html
RUN ls -dn /all/page | awk '{ print $3 }' > /www/owner.html
HEALTHCHECK --interval=5s --retries=3 CMD false

FROM scratch
ARG NUMBER=3001
ENV LISTEN=$NUMBER
COPY --from=build /bin/busybox /bin/httpd
COPY --from=build /www /www
USER 4711:4711
VOLUME /data
ONBUILD RUN false
EXPOSE 9000/udp $LISTEN 3100/tcp
ENTRYPOINT [\"/bin/httpd\", \"-f\", \"-h\", \"/www\"]
CMD [\"-p\", \"3001\"]
";

/// A Dockerfile with instructions and flags of BuildKit, an image without a shell, and a `.dockerignore` with exceptions.
#[test]
fn common_instructions_of_buildkit_are_built() {
    let base = Base::new();
    let world = World::new();
    let folder = app(&world, &base, "shapes", SHAPES);
    world.commit(&folder, &[("keep.txt", "kept"), (".dockerignore", "# all but\n**\n!page\n!keep.txt\n")]);
    world.push(&folder).success().prints("VOLUME is not kept").prints("Process types: web");
    let url = world.url("shapes");
    world.answers(&url, "page 1");
    for (page, says) in
        [("os", "for linux"), ("doc", "heredoc for linux"), ("files", "keep.txt\npage"), ("owner", "4711")]
    {
        assert_eq!(world.get(&format!("{url}/{page}.html")).unwrap().1.trim(), says);
    }
    world.paas(&["apps:destroy", "shapes", "--force"]).success();
}

/// A mistake in a Dockerfile is reported in one line, and nothing is deployed.
#[test]
fn a_dockerfile_that_fails_is_explained() {
    let base = Base::new();
    let mut world = World::with("[build]\nmemory_mib = 64\ntimeout_seconds = 600\n");
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let connecting = format!(
        "FROM BASE\nRUN host=$(ip route | awk '/default/ {{print $3}}'); echo connecting to $host; \
         nc -w 3 $host {} </dev/null || exit 3\n",
        listener.local_addr().unwrap().port()
    );
    let folder = app(&world, &base, "broken", "FROM BASE\nRUN echo about to fail && exit 3\nCMD x\n");
    // An instance that listens on the wrong port is given up after 5 seconds instead of a minute.
    world.commit(&folder, &[("app.json", r#"{"healthchecks":{"web":[{"attempts":10,"wait":0.5}]}}"#)]);
    world
        .push(&folder)
        .failure()
        .prints("about to fail")
        .prints("returned a non-zero code: 3")
        .prints("Nothing is deployed yet");
    for (dockerfile, says) in [
        (
            "FROM BASE\nRUN --mount=type=secret,id=a cat /x\n",
            "Dockerfile line 2: RUN --mount=type=secret,id=a needs BuildKit, which paas does not use",
        ),
        ("RUN x\n", "the Dockerfile has no FROM"),
        ("FROM BASE\nNONSENSE x\n", "line 2: unknown instruction: NONSENSE"),
        ("FROM BASE\nCOPY gone /x\n", "Dockerfile: COPY failed: file not found"),
        ("FROM paas-test/nowhere:0\nCMD x\n", "Dockerfile: FROM paas-test/nowhere:0: "),
        ("FROM paas-test/nowhere:0\nCMD x\n", "name a buildpack, which builds without the Dockerfile"),
        (
            "FROM BASE\nCOPY --chmod=755 page /x\n",
            "Dockerfile line 2: COPY --chmod=755 needs BuildKit, which paas does not use",
        ),
        ("FROM BASE\nRUN cat <<EOF\nx\n", "Dockerfile line 2: the end of the heredoc that begins here is missing"),
        ("FROM BASE\nCOPY --from=gone /x /x\n", "Dockerfile: invalid from flag value gone: "),
        ("FROM BASE\nRUN nonsense\n", "nonsense: not found"),
        ("FROM BASE\nCOPY . /x\n", "the Dockerfile has no command to run: add a CMD"),
        ("FROM BASE\nRUN head -c 300000000 /dev/zero | tail -c 299999999 > /dev/null\n", "ran out of memory (64 MiB)"),
        ("FROM BASE\nEXPOSE 3000\nCMD exec httpd -f -p 4000\n", "it listens on port 4000, not on $PORT (3000)"),
        ("FROM BASE\nCMD exec httpd -f -p 127.0.0.1:8080\n", "it listens on port 8080 of localhost only"),
        ("FROM BASE\nCMD [\"gone\"]\n", "cannot start web: gone: No such file or directory"),
        ("FROM BASE\nENTRYPOINT [\"/cnb/process/web\"]\n", "/cnb/process/web is the launcher of an image that"),
    ] {
        world.commit(&folder, &[("Dockerfile", &dockerfile.replace("BASE", &base.0))]);
        world.push(&folder).failure().prints(says);
    }
    world.commit(&folder, &[("Dockerfile", &connecting.replace("BASE", &base.0))]);
    world.push(&folder).failure().prints("connecting to 10.").prints("returned a non-zero code: 3");
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
