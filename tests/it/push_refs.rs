//! Pushes of several refs, of tags, of shallow clones and of old history: what the pusher means, or one line that says why not.

use std::{fs, path::Path, process::Command};

use crate::support::world::World;

/// Makes a commit whose author line has no space before the address, as old tools wrote it; returns its id.
fn commit_of_an_old_tool(folder: &Path, tree: &str) -> String {
    let commit = format!(
        "tree {tree}\nauthor Jane Doe<jane@example.org> 1300000000 +0100\n\
         committer Jane Doe <jane@example.org> 1300000000 +0100\n\nold\n"
    );
    hash_object(folder, "commit", commit.as_bytes())
}

/// Stores an object that git itself would not make.
fn hash_object(folder: &Path, kind: &str, bytes: &[u8]) -> String {
    let file = folder.join(".git/object");
    fs::write(&file, bytes).unwrap();
    let mut command = Command::new("git");
    command.args(["hash-object", "-t", kind, "-w", "--literally"]).arg(&file).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn releases(world: &World, app: &str) -> usize {
    world.paas(&["releases:list", app, "--format", "json"]).success().json().as_array().unwrap().len()
}

/// A ref that cannot be stored beside another one is refused before anything is built.
#[test]
fn a_ref_that_cannot_be_stored_is_refused_before_the_build() {
    let world = World::new();
    let folder = world.repository("tree", &[("index.html", "one")]);
    world.push(&folder).success();
    world.ssh(&["git:set", "tree", "deploy-branch", "main/prod"]).success();
    world.commit(&folder, &[("index.html", "two")]);
    let refused = world.git(&folder, &["push", "paas", "main:main/prod"]).failure();
    let refused = refused.prints("main/prod cannot be stored beside main");
    assert!(!refused.all().contains("----->"), "{}", refused.all());
    world.answers(&world.url("tree"), "one");
    assert_eq!(releases(&world, "tree"), 1);

    // The other way round, and of two refs of one push: what is deployed is kept.
    world.ssh(&["git:set", "tree", "deploy-branch", "live"]).success();
    let both = world.git(&folder, &["push", "paas", "main:live/next", "main:live"]).failure();
    both.prints("live/next cannot be stored beside live").prints("-> live\n");
    world.answers(&world.url("tree"), "two");

    // Of which one is deleted: git cannot do both at once.
    world.git(&folder, &["push", "paas", "main:refs/heads/a"]).success();
    let refspecs = [":a", "main:refs/heads/a/b"];
    let refused = world.git(&folder, &[&["push", "--atomic", "paas"], &refspecs[..]].concat()).failure();
    refused
        .prints("a/b cannot be stored in the push that deletes a")
        .prints("push the deletion of a first, then push a/b again");
    let refused = world.git(&folder, &[&["push", "paas"], &refspecs[..]].concat()).failure();
    refused.prints("git keeps a ref as a file; push a/b again");
    world.git(&folder, &["push", "paas", refspecs[1]]).success();

    // One that git cannot set does not keep the others from it.
    let lock = world.data().join("repos/tree.git/refs/tags/held.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    let pushed = world.git(&folder, &["push", "paas", "main:refs/tags/held", "main:refs/tags/free"]).failure();
    pushed.prints("[remote rejected] main -> held").prints("[new tag]         main -> free");
    fs::remove_file(&lock).unwrap();

    // An atomic push is deployed with all its refs, or not at all.
    world.commit(&folder, &[("index.html", "three")]);
    world.git(&folder, &["tag", "v3"]).success();
    let refused = world.git(&folder, &["push", "--atomic", "paas", "main:live", "main:live/x", "v3"]).failure();
    refused.prints("not updated, because the push is atomic and live/x was refused");
    world.answers(&world.url("tree"), "two");
    world.git(&folder, &["push", "--atomic", "paas", "main:live", "main:topic", "v3"]).success();
    world.answers(&world.url("tree"), "three");
    world.commit(&folder, &[("index.html", "four"), ("Procfile", "web: exit 1")]);
    world.git(&folder, &["tag", "v4"]).success();
    world.git(&folder, &["push", "--atomic", "paas", "main:live", "main:topic", "v4"]).failure();
    let refs = world.git(&folder, &["ls-remote", "paas"]).success().out;
    let of_three = world.git(&folder, &["rev-parse", "v3"]).success().out;
    let of_three = refs.lines().filter(|line| line.starts_with(of_three.trim()) && line.contains("refs/"));
    assert_eq!(of_three.count(), 3, "{refs}");
    assert!(!refs.contains("v4"), "{refs}");
}

/// Of several branches of a new app, the usual one is deployed; of a branch that is stored, `ps:rebuild` deploys the tip.
#[test]
fn several_branches_at_once_deploy_the_usual_one() {
    let world = World::new();
    let folder = world.repository("many", &[("index.html", "main")]);
    world.git(&folder, &["checkout", "-q", "-b", "a"]).success();
    world.commit(&folder, &[("index.html", "a")]);
    world
        .git(&folder, &["push", "--all", "paas"])
        .success()
        .prints("a is stored, not deployed: main is the deploy branch");
    world.answers(&world.url("many"), "main");

    world.ssh(&["git:set", "many", "deploy-branch", "a"]).success();
    let tip = world.git(&folder, &["rev-parse", "--short=7", "a"]).success().out;
    world.ssh(&["ps:rebuild", "many"]).success().prints(&format!("Building a at {}", tip.trim()));
    world.answers(&world.url("many"), "a");
    // After a rollback, a rebuild does not bring back what was rolled back.
    world.ssh(&["releases:rollback", "many"]).success();
    world.ssh(&["ps:rebuild", "many"]).success().prints("to which the app was rolled back, not a at");
    world.answers(&world.url("many"), "main");
    // Nor does a later one.
    world.ssh(&["config:set", "many", "A=1"]).success();
    world.ssh(&["ps:rebuild", "many"]).success().prints("to which the app was rolled back, not a at");
    world.answers(&world.url("many"), "main");
    let set = world.ssh(&["git:set", "many", "deploy-branch", "a"]).success();
    set.prints("and the app was rolled back to").prints("releases:rollback many v2 goes back");

    // Without a usual one none is guessed.
    let folder = world.repository("odd", &[("index.html", "b")]);
    world.git(&folder, &["branch", "-m", "b"]).success();
    world.git(&folder, &["branch", "c"]).success();
    let stored = world.git(&folder, &["push", "--all", "paas"]).success();
    stored.prints("b, c are stored, not deployed").prints("git:set odd deploy-branch BRANCH, then ps:rebuild odd");
    assert_eq!(releases(&world, "odd"), 0);
    let set = world.ssh(&["git:set", "odd", "deploy-branch", "c"]).success();
    set.prints("nothing is deployed: ps:rebuild odd deploys it");
    world.ssh(&["ps:rebuild", "odd"]).success();
    world.answers(&world.url("odd"), "b");
}

/// The deploy branch may be one that is pushed later; until then, a clone checks out what is there.
#[test]
fn a_deploy_branch_may_be_pushed_later() {
    let world = World::new();
    let folder = world.repository("later", &[("index.html", "main")]);
    let remote = world.remote("later");
    let cloned = |to: &str| {
        world.git(world.dir(), &["clone", "-q", &remote, to]).success();
        world.git(&world.dir().join(to), &["branch", "--show-current"]).success().out.trim().to_owned()
    };
    world.push(&folder).success();
    for bad in ["refs/heads/refs/heads/next", "refs/tags/v1"] {
        world.ssh(&["git:set", "later", "deploy-branch", bad]).failure().prints("give the branch alone, such as main");
    }
    let set = world.ssh(&["git:set", "later", "deploy-branch", "refs/heads/next"]).success();
    set.prints("Pushes to next are deployed").prints("there is no branch next yet: push it to deploy it");
    assert_eq!(cloned("before"), "main");
    world.commit(&folder, &[("index.html", "next")]);
    world.git(&folder, &["push", "paas", "main:next"]).success();
    world.answers(&world.url("later"), "next");
    assert_eq!(cloned("after"), "next");
    let set = world.ssh(&["git:set", "later", "deploy-branch", "main"]).success();
    let short = |name: &str| world.git(&folder, &["rev-parse", "--short=7", name]).success().out.trim().to_owned();
    set.prints(&format!(
        "main is stored at {}, {} is deployed: ps:rebuild later deploys it",
        short("HEAD~"),
        short("HEAD")
    ));
    assert_eq!(cloned("again"), "main");
    world.git(&folder, &["tag", "v1.0"]).success();
    world.git(&folder, &["push", "paas", "v1.0"]).success().prints("that commit is live as v2");
    let set = world.ssh(&["git:set", "later", "deploy-branch", "v1.0"]).success();
    set.prints("there is no branch v1.0 yet, only a tag, and a tag is not deployed: push a branch to deploy it");
}

/// A tag that was meant as a branch is told, and the command that deploys its commit works.
#[test]
fn a_tag_that_was_meant_as_a_branch_is_told() {
    let world = World::new();
    let folder = world.repository("t", &[("index.html", "one")]);
    world.git(&folder, &["tag", "v1"]).success();
    let stored = world.git(&folder, &["push", "paas", "v1:main"]).success();
    let stored = stored.prints("main is stored as a tag, not as a branch: nothing is deployed");
    assert_eq!(releases(&world, "t"), 0);
    let printed = stored.all();
    let refspec = printed.split('\'').find(|word| word.ends_with("^{commit}:refs/heads/main")).expect(&printed);
    world.git(&folder, &["push", "paas", refspec]).success();
    world.answers(&world.url("t"), "one");

    // The commit of a tag is live, was live, is ahead of the branch, or neither.
    world
        .git(&folder, &["push", "paas", "v1"])
        .success()
        .prints("v1 is not a branch")
        .prints("that commit is live as v1");
    world.commit(&folder, &[("index.html", "two")]);
    world.git(&folder, &["tag", "-a", "v2", "-m", "two"]).success();
    let command = "git push REMOTE 'v2^{commit}:refs/heads/main' deploys that commit";
    world.git(&folder, &["push", "paas", "v2"]).success().prints(command);
    world.git(&folder, &["push", "paas", "v2^{commit}:refs/heads/main"]).success();
    world.answers(&world.url("t"), "two");
    world.git(&folder, &["tag", "old", "v1"]).success();
    world.git(&folder, &["push", "paas", "old"]).success().prints("releases:rollback t v1 deploys that commit again");
    let tree = world.git(&folder, &["rev-parse", "HEAD^{tree}"]).success().out;
    let other = world.git(&folder, &["commit-tree", "-m", "other", tree.trim()]).success().out;
    world.git(&folder, &["tag", "other", other.trim()]).success();
    let stored = world.git(&folder, &["push", "paas", "other"]).success();
    stored.prints("git push -f REMOTE 'other^{commit}:refs/heads/main' deploys that commit");
    let blob = world.git(&folder, &["rev-parse", "HEAD:index.html"]).success().out;
    world.git(&folder, &["tag", "file", blob.trim()]).success();
    world.git(&folder, &["push", "paas", "file"]).success().prints("pushes to the branch main are deployed");
    world.git(&folder, &["push", "paas", "HEAD:refs/tags/x", "HEAD:refs/tags/y"]).success().prints("are not branches");
}

/// CI clones without history, each time anew.
#[test]
fn shallow_clones_deploy_again_and_again() {
    let world = World::new();
    let full = world.repository("ci", &[("index.html", "0")]);
    let remote = world.remote("ci");
    for n in 1..=3 {
        let text = n.to_string();
        world.commit(&full, &[("index.html", &text)]);
        let clone = format!("clone-{n}");
        let from = format!("file://{}", full.display());
        world.git(world.dir(), &["clone", "-q", "--depth", "1", &from, &clone]).success();
        world.git(&world.dir().join(clone), &["push", "--force", &remote, "main"]).success();
        world.answers(&world.url("ci"), &text);
    }
    // A clone of it, and the whole history after all.
    world.git(world.dir(), &["clone", "-q", &remote, "back"]).success();
    world.commit(&full, &[("index.html", "whole")]);
    world.git(&full, &["push", "--force", &remote, "main"]).success();
    world.answers(&world.url("ci"), "whole");
    world.ssh(&["ps:rebuild", "ci"]).success();
    world.git(&world.dir().join("back"), &["pull", "-q"]).success();
}

/// A shallow clone whose push comes to nothing does not cut off the history that others have pushed.
#[test]
fn a_refused_shallow_clone_leaves_the_history_of_others() {
    let world = World::new();
    let full = world.repository("team", &[("index.html", "0")]);
    for n in 1..=3 {
        world.commit(&full, &[("index.html", &n.to_string())]);
    }
    world.push(&full).success();
    world.commit(&full, &[("index.html", "newer")]);
    let from = format!("file://{}", full.display());
    world.git(world.dir(), &["clone", "-q", "--depth", "1", &from, "ci"]).success();
    // The client refuses that itself, after it has told the server where its history ends.
    world.git(&world.dir().join("ci"), &["push", &world.remote("team"), "main"]).failure().prints("fetch first");
    world.push(&full).success();
    world.commit(&full, &[("app.json", "nonsense")]);
    // A rejected push has the server collect its garbage.
    world.push(&full).failure();
    world.git(world.dir(), &["clone", "-q", &world.remote("team"), "back"]).success();
    let history = world.git(&world.dir().join("back"), &["rev-list", "--count", "HEAD"]).success().out;
    assert_eq!(history.trim(), "5");
}

#[test]
fn refs_that_change_what_git_reads_are_refused() {
    let world = World::new();
    let folder = world.repository("replaced", &[("index.html", "0")]);
    let refspec = "HEAD:refs/replace/0123456789012345678901234567890123456789";
    world.git(&folder, &["push", "paas", refspec]).failure().prints("is not a valid ref name");
}

/// Faults of old history that do no harm are accepted, and told.
#[test]
fn cosmetic_faults_of_old_history_are_accepted() {
    let world = World::new();
    let folder = world.repository("old", &[("index.html", "hello")]);
    let tree = world.git(&folder, &["rev-parse", "HEAD^{tree}"]).success().out.trim().to_owned();
    let parent = commit_of_an_old_tool(&folder, &tree);
    let head = world.git(&folder, &["commit-tree", "-p", &parent, "-m", "two", &tree]).success().out.trim().to_owned();
    let push = |commit: &str| world.git(&folder, &["push", "--force", "paas", &format!("{commit}:refs/heads/main")]);
    push(&head).success().prints("missingSpaceBeforeEmail");
    world.answers(&world.url("old"), "hello");
    // The pushed commit itself, and a tree with an entry twice.
    push(&parent).success();
    let blob = world.git(&folder, &["rev-parse", "HEAD:index.html"]).success().out.trim().to_owned();
    let id: Vec<u8> = (0..20).map(|n| u8::from_str_radix(&blob[2 * n..2 * n + 2], 16).unwrap()).collect();
    let entry = [b"100644 index.html\0", id.as_slice()].concat();
    let tree = hash_object(&folder, "tree", &[entry.clone(), entry].concat());
    // In old history it does no harm; what is deployed must have each file once.
    let twice = commit_of_an_old_tool(&folder, &tree);
    push(&twice).failure().prints("the pushed commit has \"index.html\" twice");
    let head = format!("{head}^{{tree}}");
    let head = world.git(&folder, &["commit-tree", "-p", &twice, "-m", "three", &head]).success().out.trim().to_owned();
    push(&head).success().prints("duplicateEntries");
    world.answers(&world.url("old"), "hello");
}
