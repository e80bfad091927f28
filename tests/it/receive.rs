//! The receiver of pushes, from git's client to the handler and back.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::atomic::Ordering,
};

use paas::{git::RefChange, model::RefName, receive::Streams};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::support::{
    command::{kill_group, output},
    receiver::{Server, Work, command_line, pusher, served},
    streams::feed,
    waiting::{DEADLINE, eventually},
};

#[test]
fn the_handler_decides_and_the_client_shows_the_reason() {
    let server = Server::new();
    let ann = server.work("ann");
    let first = ann.head();
    ann.push(&["main"]).success().prints("remote: -----> Deploying main").prints("[new branch]");
    assert_eq!(server.id("main"), Some(first.clone()));
    let update = &server.updates()[0];
    assert_eq!((update.old.as_ref(), update.new.as_ref()), (None, Some(&first)));

    let second = ann.commit("second");
    ann.push(&["main"]).success();
    assert_eq!(server.updates()[1].old, Some(first));

    // Two branches at once, one of them refused: the reason is one line.
    ann.push(&["main:refused", "main:topic"]).failure().prints("[remote rejected] main -> refused (no refused here)");
    assert_eq!((server.id("refused"), server.id("topic")), (None, Some(second.clone())));

    // By force, over another history.
    ann.git(&["checkout", "-q", "--orphan", "other"]).success();
    let forced = ann.commit("other");
    ann.push(&["other:main"]).failure();
    ann.push(&["--force", "other:main"]).success();
    assert_eq!(server.id("main"), Some(forced.clone()));

    // A deletion has no new value; a tag is an update like those of branches.
    ann.push(&["--delete", "topic"]).success();
    let last = server.updates().pop().unwrap();
    assert_eq!((last.name.full().as_str(), last.old, last.new), ("refs/heads/topic", Some(second), None));
    assert_eq!(server.id("topic"), None);
    ann.git(&["tag", "-a", "v1", "-m", "one"]).success();
    ann.push(&["v1"]).success();
    assert_eq!(server.updates().pop().unwrap().name.tag(), Some("v1"));
    // A branch that points to a tag object is refused before it is deployed.
    let without_update = || server.handler.without_update.load(Ordering::Acquire);
    assert_eq!(without_update(), 0);
    ann.push(&["v1:refs/heads/tagged"]).failure().prints("a branch must point to a commit");
    assert_eq!(without_update(), 1);
    // What is refused before the handler is asked refuses the whole push, if that is atomic.
    ann.push(&["--atomic", "main:one", "v1:refs/heads/two"])
        .failure()
        .prints("not updated, because the push is atomic and two was refused");
    assert_eq!((server.id("one"), without_update()), (None, 2));
    // Nothing reads push options.
    ann.push(&["-o", "ci.skip", "main:optional"]).success().prints(" !     push options (-o) have no effect");

    // A clone has the pushed commit.
    server.runtime.block_on(server.repository().set_head(&"main".parse().unwrap())).unwrap();
    let clone = server.dir().join("clone");
    ann.git(&["clone", "-q", "paas@host:app", clone.to_str().unwrap()]).success();
    assert_eq!(fs::read_to_string(clone.join("file")).unwrap(), "other");
    let head = Command::new("git").args(["-C", clone.to_str().unwrap(), "rev-parse", "HEAD"]).output().unwrap();
    assert_eq!(String::from_utf8(head.stdout).unwrap().trim(), forced.as_str());
    server.quiet();
}

#[test]
fn all_lines_of_progress_arrive_without_escape_sequences() {
    let server = Server::new();
    let ann = server.work("ann");
    let printed = ann.push(&["main:talks"]).success().prints("line 0  of very many").prints("line 19999  of very many");
    assert_eq!(printed.err.matches("  of very many").count(), 20_000);
    assert!(!printed.err.contains('\u{1b}'));
}

#[test]
fn the_handler_sees_the_old_value_that_the_client_pushed() {
    let server = Server::new();
    let (ann, bob) = (server.work("ann"), server.work("bob"));
    bob.commit("of bob");
    let held = ann.pushing(&["main:committed"]);
    eventually("ann's push is in the handler", || (server.updates().len() == 1).then_some(()));
    let stale = bob.pushing(&["main:committed"]);
    eventually("bob's push is in the handler", || (server.updates().len() == 2).then_some(()));
    assert_eq!(server.updates()[1].old, None);
    // The gate lets the pushes through in the order of their arrival.
    server.handler.gate.add_permits(1);
    output(held).success();
    server.handler.gate.add_permits(1);
    output(stale).failure().prints("stale: fetch first");
}

#[test]
fn a_pack_beyond_the_limit_is_refused() {
    let server = Server::with(|config| config.git.max_push_bytes = 1 << 20);
    let ann = server.work("ann");
    let noise: Vec<u8> = (0..3 << 20).map(|_| rand::random()).collect();
    fs::write(ann.folder.join("noise"), noise).unwrap();
    ann.commit("large");
    let text = " !     The pack is larger than 1.0 MiB (git.max_push_bytes): push less history";
    ann.push(&["main"]).failure().prints(text);
    assert_eq!((server.id("main"), server.updates().len()), (None, 0));
    server.quiet();
    assert_eq!(objects(&server), "", "no object of the refused push is left");
    assert_eq!(server.handler.without_update.load(Ordering::Acquire), 1);
}

#[test]
fn only_branches_and_tags_are_pushed_and_fetched() {
    let server = Server::new();
    let ann = server.work("ann");
    ann.push(&["main", "main:refs/evil/x", "main:refs/notes/commits"])
        .failure()
        .prints("refs/evil/x (refs/evil/x is neither a branch nor a tag; push to refs/heads/NAME or refs/tags/NAME)")
        .prints("refs/notes/commits (refs/notes/commits is neither");
    assert_eq!(server.id("main"), Some(ann.head()));
    ann.push(&["main:refs/paas/deploying"]).failure().prints("refs/paas/deploying");

    // What an earlier version took is hidden, and can be deleted.
    let notes = RefName::parse("refs/notes/commits").unwrap();
    let made = RefChange { name: &notes, old: None, new: Some(&ann.head()) };
    server.runtime.block_on(server.repository().update_refs(&[made])).unwrap();
    let listed = ann.git(&["ls-remote", "paas@host:app"]).success().out;
    assert!(listed.contains("refs/heads/main") && !listed.contains("refs/notes"), "{listed}");
    ann.push(&[":refs/notes/commits"]).success();
}

#[test]
fn pushes_wait_for_their_turn() {
    let server = Server::with(|config| config.quota.pushes = 1);
    let ann = server.work("ann");
    let held = ann.pushing(&["main:held"]);
    eventually("the first push is in the handler", || (server.updates().len() == 1).then_some(()));
    let mut waiting = ann.pushing(&["main:other"]);
    let mut line = String::new();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "-----> Waiting for 1 push to end before this one\n");
    assert_eq!(server.updates().len(), 1);
    server.handler.gate.add_permits(1);
    output(held).success();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(server.id("other"), Some(ann.head()));
}

#[test]
fn fetches_wait_for_their_turn_and_for_no_push() {
    let server = Server::with(|config| config.quota.pushes = 1);
    let ann = server.work("ann");
    let mut waiting_push = ann.pushing(&["main:held"]);
    eventually("the push is in the handler", || (server.updates().len() == 1).then_some(()));
    // A client that reads the refs and asks for nothing.
    let mut held = ann.ssh("git-upload-pack 'app'");
    let mut refs = [0; 4];
    held.stdout.as_mut().unwrap().read_exact(&mut refs).unwrap();
    let mut waiting = ann.command(&["ls-remote", "paas@host:app"]).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "-----> Waiting for 1 fetch to end before this one\n");
    // The flush packet ends the conversation.
    held.stdin.as_mut().unwrap().write_all(b"0000").unwrap();
    assert!(waiting.wait().unwrap().success());
    held.wait().unwrap();
    server.handler.gate.add_permits(1);
    assert!(waiting_push.wait().unwrap().success());
}

#[test]
fn a_push_that_waits_too_long_is_refused() {
    let server = Server::with(|config| {
        config.git.max_pushes = 1;
        config.git.push_wait_seconds = 0;
    });
    let ann = server.work("ann");
    let held = ann.pushing(&["main:held"]);
    eventually("the first push is in the handler", || (server.updates().len() == 1).then_some(()));
    let text = " !     the push has waited for 0 s (git.push_wait_seconds), and as many run as may at a time";
    ann.push(&["main:other"]).failure().prints(text);
    server.handler.gate.add_permits(1);
    output(held).success();
    ann.push(&["main:other"]).success();
}

/// Commits this many bytes that cannot be compressed.
fn commit_noise(work: &Work, bytes: usize) {
    fs::write(work.folder.join("noise"), (0..bytes).map(|_| rand::random()).collect::<Vec<u8>>()).unwrap();
    work.commit("noise");
}

#[test]
fn a_repository_has_a_quota_of_bytes() {
    let server = Server::with(|config| config.quota.repository_mib_per_app = 2);
    let ann = server.work("ann");
    commit_noise(&ann, 1 << 20);
    ann.push(&["main", "main:topic"]).success();
    commit_noise(&ann, 3 << 19);
    let text = " !     the repository has 1.1 MiB of at most 2.0 MiB (quota: repository, repositories), and the pack is larger than the \
                1.0 MiB that are left; delete branches and tags that are not needed";
    ann.push(&["main"]).failure().prints(text);
    server.quiet();
    // Up to the last byte.
    ann.git(&["reset", "-q", "--hard", "HEAD~1"]).success();
    for _ in 0..40 {
        commit_noise(&ann, 60_000);
        if !ann.push(&["main"]).ok {
            break;
        }
    }
    let full = ann.push(&["main"]).failure();
    full.prints("(quota: repository, repositories)");
    // What is deleted makes room.
    ann.git(&["checkout", "-q", "--orphan", "fresh"]).success();
    ann.git(&["rm", "-rfq", "--cached", "."]).success();
    fs::remove_file(ann.folder.join("noise")).unwrap();
    ann.commit("fresh");
    ann.push(&["--delete", "topic", "main"]).success();
    server.quiet();
    commit_noise(&ann, 3 << 19);
    ann.push(&["fresh:main"]).success();
}

#[test]
fn a_repository_has_a_quota_of_refs_and_objects() {
    let server = Server::with(|config| (config.git.max_refs, config.git.max_objects) = (2, 30));
    let ann = server.work("ann");
    ann.push(&["main", "main:a"]).success();
    let text = "b (the repository has 3 branches and tags with this push, and at most 2 are allowed (git.max_refs)";
    ann.push(&["main:b"]).failure().prints(text);
    ann.push(&["main:b", ":a"]).success();
    for n in 0..10 {
        ann.commit(&n.to_string());
    }
    let text = "main (the repository has 33 objects with this push, and at most 30 are allowed (git.max_objects)";
    ann.push(&["main"]).failure().prints(text);
    server.quiet();
}

/// Everything in `objects`, packed or not.
fn objects(server: &Server) -> String {
    let listed = Command::new("find").arg(server.repository().path().join("objects")).args(["-type", "f"]).output();
    String::from_utf8(listed.unwrap().stdout).unwrap()
}

#[test]
fn only_objects_of_refused_pushes_are_collected() {
    let server = Server::new();
    let ann = server.work("ann");
    let held = ann.pushing(&["main:committed"]);
    eventually("the first push is in the handler", || (server.updates().len() == 1).then_some(()));
    let kept = ann.head();

    // The handler of a refused push collects garbage, while no ref reaches the objects of the first push yet.
    let bob = server.work("bob");
    let refused = bob.commit("of bob");
    bob.push(&["main:refused"]).failure();
    let exists = |id| server.runtime.block_on(server.reader().commit_exists(id)).unwrap();
    assert!(exists(&kept) && exists(&refused));

    server.handler.gate.add_permits(1);
    output(held).success();
    eventually("the refused commit is collected", || (!exists(&refused)).then_some(()));
    assert!(exists(&kept));
    assert_eq!(server.id("committed"), Some(kept));
    server.quiet();
    let repository = server.repository();
    let checked = server.runtime.block_on(async { repository.command().args(["fsck", "--strict"]).output().await });
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn killing_the_client_cancels_a_push_before_its_commit_point_only() {
    let server = Server::new();
    let ann = server.work("ann");
    let push = ann.pushing(&["main:held"]);
    eventually("the push is in the handler", || (server.updates().len() == 1).then_some(()));
    kill_group(push.id().try_into().unwrap());
    output(push).failure();
    eventually("the handler is cancelled", || (*server.handler.cancelled.lock().unwrap() == ["held"]).then_some(()));
    server.quiet();
    assert_eq!(server.id("held"), None);

    let push = ann.pushing(&["main:committed"]);
    eventually("the push is in the handler", || (server.updates().len() == 2).then_some(()));
    kill_group(push.id().try_into().unwrap());
    output(push).failure();
    eventually("only the reader is left", || (server.children() == server.readers()).then_some(()));
    server.handler.gate.add_permits(1);
    eventually("the push completes", || server.id("committed"));
    server.quiet();
    ann.push(&["main:committed"]).success().prints("Everything up-to-date");
}

/// Bytes that a client sends: a command, and a pack of all commits of the folder.
fn whole_push(work: &Work, branch: &str) -> Vec<u8> {
    packed_push(work, branch, &work.head().to_string())
}

/// Bytes that a client sends: a command, and a pack of these revisions.
fn packed_push(work: &Work, branch: &str, revisions: &str) -> Vec<u8> {
    let mut packing =
        work.command(&["pack-objects", "--stdout", "--revs", "-q"]).stdin(Stdio::piped()).spawn().unwrap();
    packing.stdin.take().unwrap().write_all(format!("{revisions}\n").as_bytes()).unwrap();
    let pack = packing.wait_with_output().unwrap().stdout;
    let line = format!("{} {} refs/heads/{branch}\0report-status side-band-64k", "0".repeat(40), work.head());
    [format!("{:04x}{line}0000", line.len() + 4).as_bytes(), &pack].concat()
}

#[test]
fn a_failed_write_cancels_a_push_and_the_end_of_input_does_not() {
    let server = Server::new();
    let ann = server.work("ann");
    let start = |branch: &str, stdout: Box<dyn AsyncWrite + Send + Unpin>| {
        let (mut client, stdin) = tokio::io::duplex(4096);
        let streams = Streams { stdin: Box::new(stdin), stdout, stderr: Box::new(tokio::io::sink()) };
        let receiver = server.receiver.clone();
        let (app, pusher) = (served("app"), pusher(&server.config.quota));
        let push = async move { receiver.receive_pack(app, pusher, None, streams, CancellationToken::new()).await };
        let push = server.runtime.spawn(push);
        let bytes = whole_push(&ann, branch);
        server.runtime.block_on(async {
            feed(&mut client, &bytes).await;
            // The reader sees the end of the input.
            client.shutdown().await.unwrap();
        });
        (client, push)
    };
    let status = |push: tokio::task::JoinHandle<u32>| {
        server.runtime.block_on(async { tokio::time::timeout(DEADLINE, push).await }).unwrap().unwrap()
    };

    let (_client, push) = start("held", Box::new(tokio::io::sink()));
    eventually("the push is in the handler", || (server.updates().len() == 1).then_some(()));
    server.handler.gate.add_permits(1);
    assert_eq!(status(push), 0);
    assert_eq!(server.id("held"), Some(ann.head()));

    // git sends keepalives to its client every few seconds; where they cannot be written, the client has disconnected.
    let (mut read, write) = tokio::io::duplex(64 * 1024);
    let (_client, push) = start("held-two", Box::new(write));
    server.runtime.block_on(async {
        let mut begun = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut begun).await.unwrap();
    });
    eventually("the push is in the handler", || (server.updates().len() == 2).then_some(()));
    drop(read);
    eventually("the handler is cancelled", || {
        (*server.handler.cancelled.lock().unwrap() == ["held-two"]).then_some(())
    });
    assert_ne!(status(push), 0);
    server.quiet();
}

/// What a shallow push has recorded stays while its pack arrives, whatever other pushes end meanwhile.
#[test]
fn a_shallow_push_is_received_beside_another_one() {
    let server = Server::new();
    let (ann, bob) = (server.work("ann"), server.work("bob"));
    let parent = ann.head();
    let head = ann.commit("second");
    let line = format!("shallow {head}\n");
    let shallow = format!("{:04x}{line}", line.len() + 4);
    let bytes = [shallow.as_bytes(), &packed_push(&ann, "shallow", &format!("{head}\n^{parent}"))].concat();
    let (begin, rest) = bytes.split_at(bytes.len() - 30);

    let (mut client, stdin) = tokio::io::duplex(4096);
    let (stdout, stderr) = (Box::new(tokio::io::sink()), Box::new(tokio::io::sink()));
    let streams = Streams { stdin: Box::new(stdin), stdout, stderr };
    let (receiver, pusher) = (server.receiver.clone(), pusher(&server.config.quota));
    let push = server.runtime.spawn(async move {
        receiver.receive_pack(served("app"), pusher, None, streams, CancellationToken::new()).await
    });
    server.runtime.block_on(feed(&mut client, begin));
    let file = server.repository().path().join("shallow");
    eventually("the end of the history is recorded", || file.exists().then_some(()));

    // Without a commit of the other history.
    bob.git(&["checkout", "-q", "--orphan", "own"]).success();
    bob.commit("of bob");
    bob.push(&["own:refused"]).failure();
    bob.push(&["own"]).success();
    server.runtime.block_on(server.repository().gc()).unwrap();
    assert!(file.exists());

    server.runtime.block_on(feed(&mut client, rest));
    let status = server.runtime.block_on(async { tokio::time::timeout(DEADLINE, push).await });
    assert_eq!(status.unwrap().unwrap(), 0);
    assert_eq!(server.id("shallow"), Some(head));
    server.quiet();
    // The record is needed now, and a lock that a killed reader left keeps nobody from the next push.
    assert!(file.exists());
    fs::write(file.with_extension("lock"), "").unwrap();
    server.quiet();
    assert!(!file.with_extension("lock").exists());
}

#[test]
fn a_push_that_ends_in_the_middle_of_its_pack_leaves_nothing() {
    let server = Server::new();
    let pack_folder = server.repository().path().join("objects");
    let quarantine = || {
        let entries = fs::read_dir(&pack_folder).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
        entries.filter(|name| name.contains("incoming-") || name.starts_with("tmp_objdir-")).count()
    };
    let mut line = format!("{} {} refs/heads/main\0report-status", "0".repeat(40), "1".repeat(40));
    line = format!("{:04x}{line}0000", line.len() + 4);
    let half = [line.as_bytes(), b"PACK\0\0\0\x02\0\0\0\x05", &[0x95, 0x0a, 0x78]].concat();

    // By hang-up, by dropping the future, and by a kill that leaves git no time to clean up.
    for way in ["hangup", "drop", "kill"] {
        let (hangup, (mut client, stdin)) = (CancellationToken::new(), tokio::io::duplex(4096));
        let streams = Streams {
            stdin: Box::new(stdin),
            stdout: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::sink()),
        };
        let (receiver, token) = (server.receiver.clone(), hangup.clone());
        let (app, pusher) = (served("app"), pusher(&server.config.quota));
        let push = server.runtime.spawn(async move { receiver.receive_pack(app, pusher, None, streams, token).await });
        server.runtime.block_on(feed(&mut client, &half));
        eventually("git has begun to receive", || (quarantine() > 0).then_some(()));
        match way {
            "hangup" => hangup.cancel(),
            "drop" => push.abort(),
            _ => server.children().into_iter().for_each(kill_group),
        }
        if way != "drop" {
            let status = server.runtime.block_on(async { tokio::time::timeout(DEADLINE, push).await });
            assert_ne!(status.unwrap().unwrap(), 0, "{way}");
        }
        eventually("no child and no quarantine is left", || {
            (server.children().is_empty() && quarantine() == 0).then_some(())
        });
        server.quiet();
    }
    assert!(server.updates().is_empty());
    server.work("ann").push(&["main"]).success();
}

#[test]
fn killing_the_hook_fails_the_push() {
    let server = Server::new();
    let ann = server.work("ann");
    let push = ann.pushing(&["main:held"]);
    eventually("the push is in the handler", || (server.updates().len() == 1).then_some(()));
    let hook = server.children().into_iter().find(|pid| command_line(*pid).contains("paas\0hook"));
    let hook = rustix::process::Pid::from_raw(hook.expect("the hook runs")).unwrap();
    rustix::process::kill_process(hook, rustix::process::Signal::KILL).unwrap();
    output(push).failure().prints("[remote rejected] main -> held");
    eventually("the handler is cancelled", || (*server.handler.cancelled.lock().unwrap() == ["held"]).then_some(()));
    assert_eq!(server.id("held"), None);
    server.quiet();
}

#[test]
fn the_hook_fails_without_its_server() {
    let hook = |socket: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.arg("hook").env_remove("PAAS_HOOK_SOCKET").env("PAAS_HOOK_NONCE", "0".repeat(32));
        if let Some(socket) = socket {
            command.env("PAAS_HOOK_SOCKET", socket);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(hook(None).starts_with(" !     The push was not decided: PAAS_HOOK_SOCKET is missing"));
    assert!(hook(Some("/nonexistent/socket")).contains("the server cannot be reached"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let dying = std::thread::spawn(move || drop(listener.accept().unwrap()));
    assert!(hook(path.to_str()).contains("the server closed the connection; push again"));
    dying.join().unwrap();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/proc-receive");
    let output = Command::new(script).env_remove("PAAS_HOOK_PROGRAM").output().unwrap();
    assert!(!output.status.success(), "without the server's environment the hook must fail");
}

/// A server whose hook is this shell script; `@paas` is the real program.
fn attacked(attack: &str) -> Server {
    let attack = attack.to_owned();
    Server::with_hook(
        |_| {},
        |dir| {
            let program = dir.join("attack");
            let paas = env!("CARGO_BIN_EXE_paas");
            // A copy that the git user can run.
            fs::copy(paas, dir.join("paas")).unwrap();
            let text = attack.replace("@paas", dir.join("paas").to_str().unwrap());
            fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            Some(program)
        },
    )
}

#[test]
fn hooks_that_break_the_protocol_are_refused() {
    let zero = "0".repeat(40);
    let one = "1".repeat(40);
    let hello = "000eversion=1\\n0000";
    let line = |text: String| format!("{:04x}{text}", text.len() + 4);
    let command = line(format!("{zero} {one} refs/heads/main"));
    let many = (0..10_001).map(|n| line(format!("{zero} {one} refs/heads/b{n}"))).collect::<String>();
    for (input, reason) in [
        ("0003".to_owned(), "a pkt-line of an invalid length"),
        ("zzzz".to_owned(), "a pkt-line without a length"),
        ("fff5".to_owned(), "a pkt-line of an invalid length"),
        ("0000".to_owned(), "git sent no version"),
        ("000eversion=2\\n0000".to_owned(), "an unknown version of the hook protocol"),
        (format!("{hello}0008what0000"), "an invalid command"),
        (format!("{hello}{many}0000"), "more than 10000 refs in one push: push them in parts"),
        // The commit does not exist, so the handler is not asked.
        (format!("{hello}{command}0000 and more"), "(fail to run proc-receive hook)"),
    ] {
        let server = attacked(&format!("printf '{input}' | @paas hook >/dev/null; exit 0"));
        server.work("ann").push(&["main"]).failure().prints(reason);
        assert_eq!(server.id("main"), None, "{input}");
        assert_eq!(server.updates().len(), 0, "{input}");
    }
    // A nonce is valid for one hook only.
    let again = attacked("printf 0003 | @paas hook >/dev/null 2>&1; exec @paas hook");
    again.work("ann").push(&["main"]).failure().prints("the server closed the connection");
    let wrong = attacked("PAAS_HOOK_NONCE=00000000000000000000000000000000 exec @paas hook");
    wrong.work("ann").push(&["main"]).failure().prints("the server closed the connection");
    assert_eq!((again.updates().len(), wrong.updates().len()), (0, 0));
}

#[test]
fn an_invalid_branch_name_is_refused_without_the_others() {
    let server = Server::new();
    let ann = server.work("ann");
    ann.push(&["main:refs/heads/-x", "main:good"]).failure().prints("is not a valid branch name");
    ann.push(&["main:refs/heads/ümlaut"]).success();
    ann.push(&["--delete", "refs/heads/nowhere"]).failure().prints("there is no nowhere");
    let id = ann.head();
    assert_eq!((server.id("good"), server.id("ümlaut")), (Some(id.clone()), Some(id)));
    assert!(server.updates().iter().all(|update| !update.name.to_string().starts_with('-')));
}
