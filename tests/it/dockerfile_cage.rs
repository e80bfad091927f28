//! What a hostile Dockerfile can reach: what any build reaches.

use std::{net::TcpListener, process::Command};

use crate::support::{apps::version, command::run, elsewhere::Elsewhere, images::Base, world::World};

/// Address of the only instance.
fn instance_address(world: &World) -> String {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let name = world.running_containers("instance").remove(0);
    run(Command::new("docker").args(["inspect", "--format", format, &name])).success().out.trim().to_owned()
}

/// Neither its commands nor its instructions reach the machine, private networks, metadata services or other apps; it cannot
/// write to the server, or name other apps' images.
#[test]
fn a_dockerfile_reaches_what_any_build_reaches() {
    let base = Base::new();
    let world = World::with("[build]\ndisk_mib = 256\n");
    world.offer(&base);
    let elsewhere = Elsewhere::new();
    let victim = world.repository("victim", &[("Procfile", &version(1))]);
    world.push(&victim).success();
    let address = instance_address(&world);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();

    let tries = format!(
        "FROM BASE\nRUN try() {{ nc -w 5 $1 $2 </dev/null >/dev/null 2>&1 && echo \"reached $3\" || echo \"closed $3\"; }}; \\\n  \
         host=$(ip route | awk '/default/ {{ print $3 }}'); try $host {port} gateway; try {host} {port} host; \\\n  \
         try {address} 8080 instance; try 169.254.169.254 80 metadata; try {lan} {there} lan; try {public} {there} public; sleep 1\n\
         RUN for stream in /proc/[0-9]*/fd/[012] /proc/[0-9]*/task/*/fd/1; do echo Z > $stream; done 2>/dev/null; echo survived; sleep 1\n\
         RUN mount -t tmpfs none /tmp 2>/dev/null && echo mounted; busybox chroot / true 2>/dev/null && echo chrooted; echo looked; sleep 1\n\
         CMD sleep 1000\n",
        host = elsewhere.host_public,
        lan = elsewhere.lan,
        public = elsewhere.public,
        there = elsewhere.ports[0],
    );
    let folder = world.repository(
        "hostile",
        &[("Dockerfile", &tries.replace("BASE", &base.0)), ("Procfile", "worker: sleep 1000\n")],
    );
    let printed = world.push(&folder).success();
    let lines: Vec<_> = printed.err.lines().map(|line| line.trim_start_matches("remote:").trim()).collect();
    for name in ["gateway", "host", "instance", "metadata", "lan"] {
        assert!(lines.contains(&format!("closed {name}").as_str()), "{name}: {lines:#?}");
    }
    for line in ["reached public", "survived", "looked"] {
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
    let wrong = |line: &&str| ["mounted", "chrooted"].contains(line);
    assert!(!lines.iter().any(wrong), "{lines:#?}");

    let own = world.image_of("victim");
    let adds = format!("FROM BASE\nADD http://{}:{port}/x /x\nCMD x\n", elsewhere.host_public);
    let lan = format!("FROM BASE\nADD http://{}:{}/x /x\nCMD x\n", elsewhere.lan, elsewhere.ports[0]);
    for (dockerfile, says) in [
        (adds.as_str(), "the address cannot be reached"),
        (lan.as_str(), "the address cannot be reached"),
        ("FROM BASE\nRUN dd if=/dev/zero of=/x bs=1M count=400\nCMD x\n", "the build ran out of disk space (256 MiB"),
        ("FROM OWN\nCMD x\n", "FROM OWN: "),
        ("FROM BASE\nCOPY --from=OWN / /x\nCMD x\n", "COPY --from=OWN / /x: "),
        ("ARG A=x\nFROM ${A:+OWN}\nCMD x\n", "FROM OWN: "),
        ("FROM BASE AS a\nONBUILD COPY --from=OWN / /x\nFROM a\nCMD x\n", "COPY --from=OWN / /x: "),
        ("FROM\u{a0}OWN\nCMD x\n", "! "),
        ("FROM BASE\nRUN --mount=type=bind,from=OWN,target=/x ls /x\nCMD x\n", "RUN --mount=type=bind,from=OWN"),
    ] {
        let fill = |text: &str| text.replace("BASE", &base.0).replace("OWN", &own);
        world.commit(&folder, &[("Dockerfile", &fill(dockerfile))]);
        world.push(&folder).failure().prints(&fill(says));
    }
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept().map(|_| "a connection").map_err(|error| error.kind());
    assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock), "a build reached a port of the host");
}
