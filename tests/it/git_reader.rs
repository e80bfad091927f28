//! The process that reads repositories: what it ignores, what it refuses, and how it ends.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use paas::{
    git::{GitError, Reader},
    model::{CommitId, Files},
};
use tokio::io::AsyncReadExt as _;

use crate::support::{
    command::{kill_group, output, run, run_with},
    receiver::{Server, Work},
    streams::bytes,
    waiting::{DEADLINE, eventually},
};

/// A server, and a commit that it has.
fn pushed(files: &[(&str, &[u8])]) -> (Server, Work, CommitId) {
    let server = Server::new();
    let work = server.work("ann");
    for (name, contents) in files {
        fs::write(work.folder.join(name), contents).unwrap();
    }
    let commit = work.commit("subject");
    work.push(&["main"]).success();
    (server, work, commit)
}

fn source(server: &Server, reader: &Reader, commit: &CommitId) -> Result<Vec<u8>, GitError> {
    server.runtime.block_on(async {
        let source = reader.source_tar(commit, None, &Files::All).await?;
        Ok(bytes(source).await.unwrap())
    })
}

/// Ids of the root tree and of a file.
fn ids(work: &Work) -> Vec<String> {
    ["HEAD^{tree}", "HEAD:file"].map(|name| work.git(&["rev-parse", name]).success().out.trim().to_owned()).to_vec()
}

/// A repository may have replace refs although no push stores them: a build must not get another source than the one that its
/// commit names.
#[test]
fn replace_refs_and_grafts_are_ignored() {
    let (server, work, first) = pushed(&[]);
    let reader = server.reader();
    let tar = source(&server, &reader, &first).unwrap();
    let originals = [vec![first.to_string()], ids(&work)].concat();
    let second = work.commit("another");
    let others = [vec![second.to_string()], ids(&work)].concat();
    for (original, other) in originals.iter().zip(&others) {
        work.git(&["replace", original, other]).success();
    }
    work.push(&["main"]).success();
    let repository = server.repository();
    // Set by hand: a push cannot.
    for (original, other) in originals.iter().zip(&others) {
        let replaced = format!("refs/replace/{original}");
        let set = async { repository.command().args(["update-ref", &replaced, other]).output().await.unwrap() };
        assert!(server.runtime.block_on(set).status.success());
    }
    let info = repository.path().join("info");
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("grafts"), format!("{first} {second}\n")).unwrap();

    // git itself does not ignore them.
    let shown = server.runtime.block_on(async {
        let mut command = repository.command();
        command.env_remove("GIT_NO_REPLACE_OBJECTS").args(["show", "--no-patch", "--format=%s", first.as_str()]);
        command.output().await.unwrap()
    });
    assert_eq!(shown.stdout, b"another\n");
    work.commit("in spite of them");
    work.push(&["main"]).success();
    for reader in [reader, server.reader()] {
        assert_eq!(source(&server, &reader, &first).unwrap(), tar);
        let (summary, file) = server.runtime.block_on(async {
            (reader.commit_summary(&first).await.unwrap(), reader.read_file(&first, None, "file", 100).await.unwrap())
        });
        assert_eq!((summary.as_str(), file.unwrap().as_slice()), ("subject", &b"subject"[..]));
    }
}

/// Pushes a tree that a client makes by hand; returns its commit.
fn pushed_tree(work: &Work, tree: &str, branch: &str) -> CommitId {
    let commit = work.git(&["commit-tree", tree, "-m", branch]).success().out.trim().to_owned();
    work.push(&[&format!("{commit}:refs/heads/{branch}")]).success();
    commit.parse().unwrap()
}

#[test]
fn trees_that_contain_too_much_are_refused_at_once() {
    let server = Server::new();
    let work = server.work("ann");
    let mktree = |listing: String| {
        let made = run_with(work.command(&["mktree"]).stdin(Stdio::piped()), listing).success();
        made.out.trim().to_owned()
    };
    // Ten billion folders, none of which contains a file.
    let mut tree = mktree(String::new());
    for _ in 0..10 {
        tree = mktree((0..10).map(|n| format!("040000 tree {tree}\t{n}\n")).collect());
    }
    let commit = pushed_tree(&work, &tree, "empty");
    assert!(matches!(source(&server, &server.reader(), &commit), Err(GitError::TooManyFiles(_))));

    // A path of thousands of folders.
    let deep = format!("{}file", "d/".repeat(3000));
    let stream = format!(
        "blob\nmark :1\ndata 1\nx\ncommit refs/heads/deep\ncommitter A <a@example.org> 1 +0000\ndata 1\nx\nM 644 :1 {deep}\n\n"
    );
    run_with(work.command(&["fast-import", "--quiet"]).stdin(Stdio::piped()), stream).success();
    work.push(&["deep"]).success();
    let deep = work.git(&["rev-parse", "deep"]).success().out.trim().parse().unwrap();
    let reader = server.reader();
    let refused = source(&server, &reader, &deep).unwrap_err();
    assert!(matches!(refused, GitError::PathTooLong(_)), "{refused}");
    // The same process goes on.
    let before = server.readers();
    assert!(!server.runtime.block_on(reader.has_folder(&deep, "d/d/file")).unwrap());
    assert!(server.runtime.block_on(reader.has_folder(&deep, "d/d")).unwrap());
    assert_eq!((server.readers(), before.len()), (before, 1));
}

#[test]
fn a_reader_that_is_killed_gives_one_error_and_the_next_request_works() {
    let noise: Vec<u8> = (0..9 << 20).map(|_| rand::random()).collect();
    let (server, work, commit) = pushed(&[("one", &noise), ("two", &noise[1..])]);
    let reader = server.reader();
    let mut source = server.runtime.block_on(reader.source_tar(&commit, None, &Files::All)).unwrap();
    let error = server.runtime.block_on(async {
        source.reader.read_u8().await.unwrap();
        let [pid] = server.readers()[..] else { panic!("there is one reader") };
        kill_group(pid);
        source.reader.read_to_end(&mut Vec::new()).await.unwrap_err().to_string()
    });
    assert_eq!(error, "the process that reads the repository was ended by signal 9; try again");
    assert!(server.runtime.block_on(reader.commit_exists(&commit)).unwrap());

    // The process of a push, while it waits for its handler.
    let second = work.commit("second");
    let push = work.pushing(&["main:held"]);
    eventually("the push is in the handler", || (server.updates().len() == 2).then_some(()));
    server.readers().into_iter().for_each(kill_group);
    server.handler.gate.add_permits(1);
    output(push).failure().prints("was ended by signal 9; try again");
    server.handler.gate.add_permits(1);
    work.push(&["main:held"]).success();
    assert_eq!(server.id("held"), Some(second));
}

/// A few bytes of a pack can say that an object has gigabytes.
#[test]
fn the_memory_of_a_reader_is_limited() {
    let (server, _, commit) = pushed(&[]);
    let reader = server.reader();
    assert!(server.runtime.block_on(reader.commit_exists(&commit)).unwrap());
    let [pid] = server.readers()[..] else { panic!("there is one reader") };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    assert_eq!(data.split_whitespace().skip(3).collect::<Vec<_>>(), ["2147483648", "2147483648", "bytes"]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(used < 256 << 10, "what it allocates at its start leaves room for objects: {used} KiB");
}

#[test]
fn a_push_has_one_reader_which_ends_with_it() {
    let (server, work, _) = pushed(&[]);
    eventually("no reader is left", || server.children().is_empty().then_some(()));
    work.commit("second");
    let push = work.pushing(&["main", "main:held", "main:held-too"]);
    eventually("the push is in the handler", || (server.updates().len() == 3).then_some(()));
    let readers = server.readers();
    assert_eq!(readers.len(), 1);
    server.handler.gate.add_permits(1);
    eventually("the next branch is in the handler", || (server.updates().len() == 4).then_some(()));
    assert_eq!(server.readers(), readers);
    server.handler.gate.add_permits(1);
    output(push).success();
    server.quiet();

    // A source that is not read, and one that is read in part.
    let commit = work.head();
    for bytes in [0, 1] {
        let reader = server.reader();
        let mut source = server.runtime.block_on(reader.source_tar(&commit, None, &Files::All)).unwrap();
        server.runtime.block_on(async { source.reader.read_exact(&mut vec![0; bytes]).await.unwrap() });
        drop((reader, source));
        server.quiet();
    }
}

/// A reader that a test starts by hand, and a frame with a request.
fn started(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
    command.arg("git-reader").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn frame(json: &str) -> Vec<u8> {
    [b"Q", &u32::try_from(json.len()).unwrap().to_be_bytes()[..], json.as_bytes()].concat()
}

/// A server that is killed closes the pipe and can do no more.
#[test]
fn a_reader_ends_when_its_input_ends_whatever_it_does() {
    let noise: Vec<u8> = (0..17 << 20).map(|_| rand::random()).collect();
    let (server, work, commit) = pushed(&[("large", &noise)]);
    let mut idle = started(&work.folder.join(".git"));
    drop(idle.stdin.take());
    eventually("an idle reader ends", || idle.try_wait().unwrap());

    // One that writes a tar that nobody reads: its output stays open.
    let mut busy = started(&work.folder.join(".git"));
    let mut stdin = busy.stdin.take().unwrap();
    let list = format!(r#"{{"Source":{{"commit":"{commit}","folder":null,"files":"All","max_bytes":{}}}}}"#, 1 << 30);
    stdin.write_all(&frame(&list)).unwrap();
    stdin.write_all(&frame(r#""Tar""#)).unwrap();
    let mut head = [0; 5];
    busy.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head[0], b'A');
    drop(stdin);
    let ended = eventually("a busy reader ends", || busy.try_wait().unwrap());
    assert_eq!(ended.signal(), Some(9));
    // Neither does the git that reads the large file for it go on.
    drop(busy.stdout.take());
    eventually("no git is left", || {
        let all = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let folder = work.folder.join(".git");
        let left = all.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).count();
        (left == 0).then_some(())
    });
    drop(server);
}

#[test]
fn invalid_requests_and_missing_repositories_end_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repository");
    run(Command::new("git").args(["init", "-q", "--bare"]).arg(&repository)).success();
    let ask = |folder: &Path, input: &[u8]| {
        let mut reader = started(folder);
        reader.stdin.as_mut().unwrap().write_all(input).unwrap();
        let mut stdout = vec![0; 200];
        let length = reader.stdout.as_mut().unwrap().read(&mut stdout).unwrap();
        let ended = reader.wait_with_output().unwrap();
        let text = [&stdout[..length], &ended.stderr].concat();
        (ended.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (_, text) = ask(dir.path(), &frame(r#""HasRefs""#));
    assert!(text.contains(r#"{"Failed":{"Unreadable":"#), "{text}");
    let (_, text) = ask(&repository, &frame(r#""HasRefs""#));
    assert!(text.ends_with(r#"{"Is":false}"#), "{text}");
    for (input, reason) in [
        (b"x\0\0\0\0".to_vec(), "a frame of the unknown kind 120"),
        (b"Q\xff\xff\xff\xff".to_vec(), "a frame of 4294967295 bytes"),
        (frame(r#""What""#), "unknown variant `What`"),
        (frame(r#"{"IsCommit":{"id":"--all"}}"#), "is not a valid git object id"),
    ] {
        let (code, text) = ask(&repository, &input);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with("git-reader: ") && text.contains(reason) && text.lines().count() == 1, "{text}");
    }
}

/// Damage of the disk, or of a git that was killed, must not be worse than a message.
#[test]
fn a_damaged_repository_gives_errors_and_no_crash() {
    let noise: Vec<u8> = (0..1 << 20).map(|_| rand::random()).collect();
    let (server, work, commit) = pushed(&[("noise", &noise)]);
    server.quiet();
    let packs = server.repository().path().join("objects/pack");
    let packs = fs::read_dir(packs).unwrap().map(|e| e.unwrap().path());
    let pack = packs.filter(|path| path.extension().is_some_and(|e| e == "pack")).collect::<Vec<_>>();
    let [pack] = &pack[..] else { panic!("{pack:?}") };
    let whole = fs::read(pack).unwrap();
    let tree = work.git(&["rev-parse", "HEAD^{tree}"]).success().out;
    let blob = work.git(&["rev-parse", "HEAD:noise"]).success().out;
    let listed = run(Command::new("git").args(["verify-pack", "-v"]).arg(pack)).success().out;
    for id in [commit.as_str(), tree.trim(), blob.trim()] {
        // Id, kind, size, size in the pack, offset.
        let line = listed.lines().find(|line| line.starts_with(id)).unwrap();
        let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = numbers[2] + numbers[1] / 2;
        let mut damaged = whole.clone();
        damaged[at..at + 4].iter_mut().for_each(|byte| *byte = !*byte);
        fs::remove_file(pack).unwrap();
        fs::write(pack, &damaged).unwrap();
        fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let reader = server.reader();
        let read = server.runtime.block_on(async {
            let read = async {
                let source = reader.source_tar(&commit, None, &Files::All).await.map_err(|e| e.to_string())?;
                bytes(source).await.map_err(|e| e.to_string())
            };
            tokio::time::timeout(DEADLINE, read).await.expect("no hang")
        });
        let error = read.map(|tar| tar.len()).expect_err(&format!("the damage of {id} is noticed"));
        assert!(!error.contains('\n') && !error.contains("signal"), "{line}: {error}");
    }
    fs::remove_file(pack).unwrap();
    assert!(!server.runtime.block_on(server.reader().commit_exists(&commit)).unwrap());
}
