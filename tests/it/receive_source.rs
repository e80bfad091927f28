//! Repositories, and the source: the tree of a commit as a tar.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
};

use paas::{
    git::{GitError, NoFile, Source},
    model::{CommitId, Files},
};

use crate::support::{
    receiver::{Server, Work, open_repositories},
    streams::bytes,
};

fn source(server: &Server, commit: &CommitId, folder: Option<&str>) -> Result<Source, GitError> {
    server.runtime.block_on(server.reader().source_tar(commit, folder, &Files::All))
}

fn pushed(work: &Work) -> CommitId {
    work.push(&["--force", "HEAD:main"]).success();
    work.head()
}

/// Path, mode, whether it is a symlink, link target and contents of each entry.
type Entries = Vec<(Vec<u8>, u32, bool, Option<Vec<u8>>, Vec<u8>)>;

fn entries(tar: &[u8]) -> Entries {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(tar);
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (315_532_801, 0));
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        let mode = entry.header().mode().unwrap();
        let is_link = entry.header().entry_type().is_symlink();
        (
            entry.path_bytes().into_owned(),
            mode,
            is_link,
            entry.link_name_bytes().map(std::borrow::Cow::into_owned),
            text,
        )
    });
    read.collect()
}

#[test]
fn the_same_tree_gives_the_same_tar_with_all_names() {
    let server = Server::new();
    let work = server.work("ann");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let names: [&[u8]; 6] = [b"new\nline", b"back\\slash", b"\xff\xfe", b" space ", long.as_bytes(), b"-dash"];
    fs::create_dir(work.folder.join("d".repeat(120))).unwrap();
    for name in names {
        fs::write(work.folder.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(work.folder.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(work.folder.join("zero"), vec![0; 5 << 20]).unwrap();
    fs::write(work.folder.join(".gitattributes"), "run export-ignore\nfile export-subst text eol=crlf\n").unwrap();
    let target = format!("../{}", "t".repeat(150));
    symlink("/etc/passwd", work.folder.join("absolute")).unwrap();
    symlink(&target, work.folder.join("far")).unwrap();
    let one = work.commit("$Format:%H$\n");
    pushed(&work);
    let first = source(&server, &one, None).unwrap();
    assert_eq!(first.warnings, [""; 0]);
    let tree = first.tree.clone();
    let first = server.runtime.block_on(bytes(first)).unwrap();

    let entries = entries(&first);
    for name in names {
        let entry = entries.iter().find(|entry| entry.0 == name).unwrap_or_else(|| panic!("{name:?}"));
        assert_eq!((entry.1, entry.2, &entry.4[..]), (0o644, false, name));
    }
    let find = |name: &str| entries.iter().find(|entry| entry.0 == name.as_bytes()).unwrap().clone();
    assert_eq!(find("run").1, 0o755);
    assert_eq!(find("zero").4.len(), 5 << 20);
    assert_eq!(find("file").4, b"$Format:%H$\n");
    assert_eq!((find("absolute").2, find("absolute").3.unwrap()), (true, b"/etc/passwd".to_vec()));
    assert_eq!(find("far").3.unwrap(), target.as_bytes());
    assert_eq!(entries.len(), names.len() + 6);

    // A later commit with the same tree.
    let two = work.commit("$Format:%H$\n");
    assert_ne!(one, two);
    pushed(&work);
    let second = source(&server, &two, None).unwrap();
    assert_eq!(second.tree, tree);
    assert_eq!(server.runtime.block_on(bytes(second)).unwrap(), first);
}

#[test]
fn folders_submodules_lfs_pointers_and_empty_trees_are_read() {
    let server = Server::new();
    let work = server.work("ann");
    fs::create_dir_all(work.folder.join("sub/deep")).unwrap();
    fs::write(work.folder.join("sub/deep/x"), "x").unwrap();
    fs::write(work.folder.join("sub/.gitattributes"), "*.bin filter=lfs\n").unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "a".repeat(64));
    fs::write(work.folder.join("sub/large.bin"), pointer).unwrap();
    for n in 0..7 {
        let entry = format!("160000,{},vendor/lib{n}", "1".repeat(40));
        work.git(&["update-index", "--add", "--cacheinfo", &entry]).success();
    }
    work.git(&["add", "sub", "file"]).success();
    work.git(&["commit", "-q", "-m", "ünder\u{1b}[31m red\n\nbody"]).success();
    let commit = pushed(&work);
    let whole = source(&server, &commit, None).unwrap();
    assert_eq!(
        whole.warnings,
        [
            "Submodules are not deployed: vendor/lib0, vendor/lib1, vendor/lib2, vendor/lib3, vendor/lib4 and 2 more; \
             commit their files, or fetch them in the build",
            "Git LFS files are deployed as their pointers, without their contents: sub/large.bin"
        ]
    );
    let sub = source(&server, &commit, Some("sub")).unwrap();
    let names: Vec<_> = entries(&server.runtime.block_on(bytes(sub)).unwrap()).into_iter().map(|e| e.0).collect();
    assert_eq!(names, [&b".gitattributes"[..], b"deep/x", b"large.bin"]);
    for missing in ["nowhere", "file", "sub/../sub", "/etc"] {
        assert!(matches!(source(&server, &commit, Some(missing)), Err(GitError::NoSuchFolder(_))), "{missing}");
    }

    let reader = server.reader();
    let read = |path: &str, most| server.runtime.block_on(reader.read_file(&commit, None, path, most));
    assert_eq!(read("sub/deep/x", 1).unwrap().unwrap(), b"x");
    assert_eq!(read("Procfile", 1).unwrap(), Err(NoFile::Absent));
    assert_eq!(read("sub", 1).unwrap(), Err(NoFile::Folder));
    assert!(matches!(read("sub/large.bin", 10), Err(GitError::TooLarge { .. })));
    assert_eq!(server.runtime.block_on(reader.commit_summary(&commit)).unwrap(), "ünder red");

    work.git(&["rm", "-rqf", "--cached", "."]).success();
    work.git(&["commit", "-q", "-m", "empty"]).success();
    let empty = pushed(&work);
    assert!(matches!(source(&server, &empty, None), Err(GitError::EmptyTree)));
}

/// A file may be a symbolic link, which is followed as the kernel does, but not out of the folder that is built.
#[test]
fn symbolic_links_are_followed_within_the_folder() {
    let server = Server::new();
    let work = server.work("ann");
    fs::create_dir_all(work.folder.join("app/config")).unwrap();
    fs::write(work.folder.join("app/config/real"), "real").unwrap();
    fs::write(work.folder.join("outside"), "outside").unwrap();
    for (link, target) in [
        ("near", "config/real"),
        ("second", "./near"),
        ("config/up", "../config//real"),
        ("dir", "config"),
        ("through", "dir/real"),
        ("out", "../outside"),
        ("absolute", "/etc/passwd"),
        ("nowhere", "missing"),
        ("itself", "itself"),
        ("below", "config/real/x"),
    ] {
        symlink(target, work.folder.join("app").join(link)).unwrap();
    }
    work.git(&["add", "app", "outside"]).success();
    work.git(&["commit", "-q", "-m", "links"]).success();
    let commit = pushed(&work);
    let reader = server.reader();
    let read = |folder, path: &str| server.runtime.block_on(reader.read_file(&commit, folder, path, 100)).unwrap();
    for path in ["config/real", "near", "second", "config/up", "through"] {
        assert_eq!(read(Some("app"), path).as_deref(), Ok(&b"real"[..]), "{path}");
    }
    assert_eq!(read(None, "app/out").as_deref(), Ok(&b"outside"[..]));
    assert_eq!(read(Some("app"), "dir"), Err(NoFile::Folder));
    for path in ["out", "absolute", "nowhere", "itself", "below"] {
        assert_eq!(read(Some("app"), path), Err(NoFile::BrokenLink), "{path}");
    }
    for path in ["missing", "../outside", "config/real/x"] {
        assert_eq!(read(Some("app"), path), Err(NoFile::Absent), "{path}");
    }
    let all = Files::Exclude(vec!["*".to_owned()]);
    let refused = server.runtime.block_on(reader.source_tar(&commit, None, &all)).unwrap_err().to_string();
    assert!(
        refused.starts_with("io.buildpacks.exclude in project.toml") && refused.contains("leaves no file"),
        "{refused}"
    );
}

/// A few small trees that together name more files than a machine can list.
#[test]
fn a_tree_bomb_is_refused() {
    let server = Server::new();
    let work = server.work("ann");
    let mut path = work.folder.clone();
    fs::write(path.join("x"), "x").unwrap();
    work.git(&["add", "x"]).success();
    let blob = work.git(&["rev-parse", ":x"]).success().out.trim().to_owned();
    let mut line = format!("100644 blob {blob}");
    for _ in 0..10 {
        let listing: Vec<_> = (0..10).map(|n| format!("{line}\t{n}\n")).collect();
        path = work.folder.join("listing");
        fs::write(&path, listing.concat()).unwrap();
        let mut command = work.command(&["mktree"]);
        let tree = command.stdin(fs::File::open(&path).unwrap()).output().unwrap();
        line = format!("040000 tree {}", String::from_utf8(tree.stdout).unwrap().trim());
    }
    let tree = line.rsplit(' ').next().unwrap();
    let commit = work.git(&["commit-tree", tree, "-m", "bomb"]).success().out.trim().to_owned();
    work.push(&[&format!("{commit}:refs/heads/main")]).success();
    let refused = source(&server, &commit.parse().unwrap(), None).unwrap_err();
    assert!(matches!(refused, GitError::TooManyFiles(_)), "{refused}");
}

#[test]
fn a_source_larger_than_the_disk_is_refused_and_a_reader_may_stop() {
    let server = Server::with(|config| config.build.disk_mib = 64);
    let work = server.work("ann");
    fs::write(work.folder.join("zero"), vec![0; 40 << 20]).unwrap();
    let commit = work.commit("one");
    pushed(&work);
    // A reader that stops leaves no child behind.
    drop(source(&server, &commit, None).unwrap());
    server.quiet();
    fs::copy(work.folder.join("zero"), work.folder.join("again")).unwrap();
    let commit = work.commit("two");
    pushed(&work);
    let refused = source(&server, &commit, None).unwrap_err().to_string();
    assert!(refused.starts_with("the files of the pushed commit take 80 MiB, but a build disk has 64"), "{refused}");
}

#[test]
fn repositories_are_created_and_removed_atomically() {
    let server = Server::new();
    let (repositories, name) = (&server.repositories, "other".parse().unwrap());
    server.runtime.block_on(async {
        let made = tokio::join!(repositories.create(&name), repositories.create(&name), repositories.create(&name));
        made.0.unwrap();
        made.1.unwrap();
        made.2.unwrap();
    });
    let repos = server.config.data_dir.join("repos");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&repos).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["app.git", "other.git"]);
    server.runtime.block_on(repositories.remove(&name)).unwrap();
    server.runtime.block_on(repositories.remove(&name)).unwrap();
    assert_eq!(names(), ["app.git"]);

    // Leftovers of a server that died while it created or removed a repository; and the lock of a killed git.
    fs::create_dir_all(repos.join("app.new-1/objects")).unwrap();
    fs::create_dir_all(repos.join("app.gone-1/objects")).unwrap();
    server.runtime.block_on(open_repositories(&server.config));
    assert_eq!(names(), ["app.git"]);
    let lock = repos.join("app.git/refs/heads/main.lock");
    fs::write(&lock, "").unwrap();
    let work = server.work("ann");
    work.push(&["main"]).failure().prints("cannot lock ref");
    server.runtime.block_on(server.repository().remove_stale_locks()).unwrap();
    assert!(!lock.exists());
    work.push(&["main"]).success();
}

#[test]
fn trees_that_git_does_not_make_are_refused() {
    let server = Server::new();
    let work = server.work("ann");
    let made = |listing: &str, message: &str| {
        let path = work.folder.join("listing");
        fs::write(&path, listing).unwrap();
        let tree = work.command(&["mktree"]).stdin(fs::File::open(&path).unwrap()).output().unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        work.git(&["commit-tree", tree.trim(), "-m", message]).success().out.trim().to_owned()
    };
    let blob = |bytes: &[u8]| {
        let path = work.folder.join("blob");
        fs::write(&path, bytes).unwrap();
        work.git(&["hash-object", "-w", path.to_str().unwrap()]).success().out.trim().to_owned()
    };
    let (x, nul, long) = (blob(b"x"), blob(b"a\0b"), blob(&[b't'; 5000]));
    for (name, reason) in [(".git", "hasDotgit"), (".GiT", "hasDotgit"), ("git~1", "hasDotgit"), ("..", "hasDotdot")] {
        let commit = made(&format!("100644 blob {x}\t{name}\n"), name);
        work.push(&[&format!("{commit}:refs/heads/main")]).failure().prints(reason);
    }
    assert!(server.updates().is_empty());

    // A file, and a link of the same name before a folder.
    let folder = made(&format!("100644 blob {x}\tinside\n"), "a folder");
    let folder = work.git(&["rev-parse", &format!("{folder}^{{tree}}")]).success().out;
    for (first, second) in [("100644 blob", &nul), ("040000 tree", &folder.trim().to_owned())] {
        let listing = format!("120000 blob {x}\ttwice\n100644 blob {x}\ttwice-more\n{first} {second}\ttwice\n");
        let commit = made(&listing, "duplicates");
        work.push(&["--force", &format!("{commit}:refs/heads/twice")]).success().prints("duplicateEntries");
        let refused = source(&server, &commit.parse().unwrap(), None);
        assert!(matches!(refused, Err(GitError::Duplicate(name)) if name == "twice"));
    }

    let commit = made(&format!("120000 blob {nul}\tlink\n"), "a target with a NUL");
    work.push(&[&format!("{commit}:refs/heads/nul")]).success();
    let unreadable = source(&server, &commit.parse().unwrap(), None).unwrap();
    let error = server.runtime.block_on(bytes(unreadable)).unwrap_err().to_string();
    assert!(error.starts_with("link: "), "the reader gets the error: {error}");

    let commit = made(&format!("120000 blob {long}\tlink\n"), "a target that is too long");
    work.push(&[&format!("{commit}:refs/heads/long")]).success();
    assert!(matches!(source(&server, &commit.parse().unwrap(), None), Err(GitError::PathTooLong(_))));
}

/// The digest is that of the tar that `git ls-tree` and `git cat-file` gave, before a process of ours read repositories.
#[test]
fn the_tar_of_a_tree_never_changes() {
    let server = Server::new();
    let work = server.work("ann");
    let write = |name: &str, bytes: &[u8]| {
        let path = work.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("Procfile", b"web: ./run\n");
    write("run", b"#!/bin/sh\n");
    fs::set_permissions(work.folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    // Names whose order differs between folders and files, and one that needs a long-name entry.
    for name in ["a/b/c", "a.b", "a-b/x", "a0", &format!("{}/{}", "d".repeat(120), "f".repeat(200))] {
        write(name, name.as_bytes());
    }
    write("empty", b"");
    symlink("/etc/passwd", work.folder.join("absolute")).unwrap();
    symlink(format!("../{}", "t".repeat(150)), work.folder.join("far")).unwrap();
    // One file that a compressor makes small and one that it does not, both large.
    write("zeros", &vec![0; 20 << 20]);
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    write("noise", &noise.take(17 << 20).collect::<Vec<_>>());
    let commit = work.commit("all");
    pushed(&work);
    let tar = server.runtime.block_on(bytes(source(&server, &commit, None).unwrap())).unwrap();
    let digest = "sha256:806baf7eea1b270c91a02112a9c430a705a4a2a7225a677b00290effb6b98e43";
    assert_eq!(paas::model::Digest::of(&tar).as_str(), digest);
}
