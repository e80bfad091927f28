use super::*;
use crate::{
    config::{Config, Quota},
    model::{AppName, Capacity, Exposure, PartialSize, Process, Resource, SizeTarget},
    store::OwnerLimit,
};

/// A store in which each owner may have little.
fn small() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let quota = Quota {
        apps: 2,
        ports: 4,
        mappings_per_app: 2,
        instances: 5,
        process_types_per_app: 2,
        tasks: 1,
        cpu_millis: 10_000,
        memory_mib: 3072,
        config_bytes_per_app: 20,
        binding_bytes_per_app: 20,
        volumes_mib: 100,
        builds: 1,
        ..Quota::default()
    };
    let config = Config { data_dir: dir.path().to_owned(), quota, ..Config::default() };
    Fixture { store: Store::open_for(&config).unwrap(), dir }
}

impl Fixture {
    async fn try_app(&self, name: &str, owner: &User) -> Result<App> {
        self.store.create_app(name.parse().unwrap(), Some(owner.id), 10_000..=10_009, vec![]).await
    }

    async fn used(&self, user: &User, resource: Resource) -> (u64, Option<u64>) {
        let rows = self.store.quotas(user.id).await.unwrap();
        let row = rows.into_iter().find(|row| row.resource == resource).unwrap();
        (row.used.unwrap(), row.max)
    }

    /// A current release with process types of these default quantities.
    async fn try_release(&self, app: &App, types: &[(&str, u32)]) -> Result<Release> {
        let spec = |(name, quantity): &(&str, u32)| ProcessSpec {
            process: Process {
                process_type: name.parse().unwrap(),
                command: vec!["x".into()],
                args: vec![],
                direct: true,
                default: false,
                working_dir: None,
            },
            health_checks: vec![],
            default_quantity: *quantity,
            port: 8080,
            exposes: Exposure::Nothing,
            own_user: false,
        };
        let new = NewRelease {
            kind: ReleaseKind::Push,
            image: Digest::of(b"image"),
            branch: None,
            commit: None,
            build: None,
            config: BTreeMap::new(),
            bindings: Bindings::new(),
            processes: types.iter().map(spec).collect(),
            manifest: ReleaseManifest::default(),
            description: "test".into(),
            created_by: "me".into(),
        };
        let release = self.store.create_release(app.id, new, Vec::new(), Placement::AtStart).await?.0;
        let deployment = self.store.begin_deployment(app.id, release.number, None).await?.unwrap();
        self.store.commit_deployment(app.id, deployment).await?;
        Ok(release)
    }

    /// Instances with these numbers that were stopped and have not ended yet.
    async fn end(&self, app: &App, release: &Release, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            let new = NewInstance {
                id: format!("i{number}").parse().unwrap(),
                app: app.id,
                generation: 1,
                release: release.number,
                process_type: ProcessType::web(),
                ordinal: 1,
                restarts: 0,
                last_failure: None,
                not_before: 0,
                port: 8080,
            };
            let added = self.store.add_instance(new, Placement::AtStart).await.unwrap();
            self.store.set_instance(added.id, None, InstanceState::Retiring).await.unwrap();
        }
    }

    async fn scale(&self, app: &App, quantity: u32) -> Result<()> {
        self.store.scale(app.id, BTreeMap::from([(ProcessType::web(), quantity)])).await.map(drop)
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(StoreError::Exhausted(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_owner_may_have_so_many_apps_and_another_owner_as_many() {
    let f = small();
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    let one = f.try_app("one", &ada).await.unwrap();
    f.try_app("two", &ada).await.unwrap();
    assert_eq!(
        refused(f.try_app("three", &ada).await),
        "ada may have 2 apps, and this would make it 3; quota shows what is used, and an admin raises the limit with quota:set \
         ada apps=3"
    );
    assert!(f.store.find_app("three".parse().unwrap()).await.unwrap().is_none(), "nothing of it is left");
    f.try_app("theirs", &bob).await.unwrap();
    f.store.forget_app(one.id).await.unwrap();
    f.try_app("three", &ada).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Apps).await, (2, Some(2)));

    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Apps, Some(3))])).await.unwrap();
    f.try_app("four", &ada).await.unwrap();
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Apps, None)])).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Apps).await, (3, Some(2)), "what there is stays");

    let root = f.store.add_user("root".parse().unwrap(), true).await.unwrap();
    for name in ["r-1", "r-2", "r-3"] {
        f.try_app(name, &root).await.unwrap();
    }
}

#[tokio::test]
async fn an_app_is_not_given_to_somebody_who_may_not_have_it() {
    let f = small();
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    f.try_app("one", &bob).await.unwrap();
    f.try_app("two", &bob).await.unwrap();
    let third = f.try_app("three", &ada).await.unwrap();
    assert!(refused(f.store.transfer(third.id, bob.id, ADMIN).await).starts_with("bob may have 2 apps"));
    f.store.set_member(third.id, bob.id, Role::Operator, ADMIN).await.unwrap();
    f.store.set_member(third.id, bob.id, Role::Owner, ADMIN).await.unwrap();
    let owner = f.store.owners().await.unwrap().remove(&third.id).unwrap();
    assert_eq!(owner.as_str(), "ada", "it counts against the first of its owners");
}

#[tokio::test]
async fn an_owner_does_not_leave_an_app_to_one_who_may_not_have_it() {
    let f = small();
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    for name in ["one", "two"] {
        f.try_app(name, &bob).await.unwrap();
    }
    let third = f.try_app("three", &ada).await.unwrap();
    f.store.set_member(third.id, bob.id, Role::Owner, ADMIN).await.unwrap();
    let text = "bob may have 2 apps, and this would make it 3; quota shows";
    assert!(refused(f.store.remove_member(third.id, ada.id, ADMIN).await).starts_with(text));
    assert!(refused(f.store.set_member(third.id, ada.id, Role::Operator, ADMIN).await).starts_with(text));
    let members = f.store.members(third.id).await.unwrap();
    assert_eq!(members.iter().filter(|member| member.role == Role::Owner).count(), 2, "nothing has changed");
    f.store.remove_member(third.id, bob.id, ADMIN).await.unwrap();
    f.store.set_member(third.id, bob.id, Role::Owner, ADMIN).await.unwrap();
    f.store.set_quotas(bob.id, BTreeMap::from([(Resource::Apps, Some(3))])).await.unwrap();
    f.store.remove_member(third.id, ada.id, ADMIN).await.unwrap();
    assert_eq!((f.used(&ada, Resource::Apps).await.0, f.used(&bob, Resource::Apps).await.0), (0, 3));
}

#[tokio::test]
async fn no_more_is_started_while_too_much_is_ending() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    let release = f.try_release(&app, &[("web", 3)]).await.unwrap();
    let restart = || f.store.begin_deployment(app.id, release.number, None);
    f.end(&app, &release, 1..=3).await;
    restart().await.unwrap();
    f.end(&app, &release, 4..=5).await;
    restart().await.unwrap();
    f.end(&app, &release, 6..=6).await;
    let text =
        "ada may have 5 instances, and those that were stopped or replaced and have not ended yet have 6; wait until";
    assert!(refused(restart().await).starts_with(text));
    assert!(refused(f.try_release(&app, &[("web", 1)]).await).starts_with(text));
    assert!(refused(f.scale(&app, 4).await).starts_with(text));
    assert!(refused(f.scale(&app, 4).await).ends_with("(ps:set one stop-timeout)"));
    f.store.set_stopped(app.id, true).await.unwrap();
    assert!(refused(f.store.set_stopped(app.id, false).await).starts_with(text));
    f.try_release(&app, &[("web", 1)]).await.unwrap();
    f.scale(&app, 1).await.unwrap();

    f.store.remove_instance("i1".parse().unwrap()).await.unwrap();
    f.store.set_stopped(app.id, false).await.unwrap();
    let size = PartialSize { cpu: None, memory: "1g".parse().ok() };
    f.store.change_size(app.id, SizeKind::Limit, SizeTarget::Instances, size).await.unwrap();
    let text = "ada may have 3072 MiB of memory for instances and tasks, and those that were stopped or replaced";
    assert!(refused(restart().await).starts_with(text), "also for what they may use");
}

#[tokio::test]
async fn an_app_is_not_taken_with_more_that_is_ending_than_allowed() {
    let f = small();
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    let by_bob = Changer { user: Some(bob.id), admin: false };
    let app = f.try_app("one", &ada).await.unwrap();
    let release = f.try_release(&app, &[("web", 1)]).await.unwrap();
    f.store.set_member(app.id, bob.id, Role::Owner, ADMIN).await.unwrap();
    let own = f.try_app("own", &bob).await.unwrap();
    let of_bob = f.try_release(&own, &[("web", 1)]).await.unwrap();
    f.end(&own, &of_bob, 1..=3).await;
    f.end(&app, &release, 4..=6).await;
    let text =
        "bob may have 5 instances, and those that were stopped or replaced and have not ended yet have 6; wait until";
    assert!(refused(f.store.transfer(app.id, bob.id, by_bob).await).starts_with(text));
    assert!(refused(f.store.transfer(app.id, bob.id, ADMIN).await).starts_with(text));
    assert!(refused(f.store.remove_member(app.id, ada.id, by_bob).await).starts_with(text));
    assert_eq!(f.store.owners().await.unwrap()[&app.id].as_str(), "ada", "nothing has changed");
    f.store.begin_deployment(own.id, of_bob.number, None).await.unwrap();

    f.store.remove_instance("i4".parse().unwrap()).await.unwrap();
    f.store.transfer(app.id, bob.id, by_bob).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app.id].as_str(), "bob");
}

#[tokio::test]
async fn declared_instances_are_counted_as_they_would_run() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    f.scale(&app, 50).await.unwrap();
    assert!(
        refused(f.try_release(&app, &[("web", 1)]).await)
            .starts_with("ada may have 5 instances, and this would make it 50")
    );
    f.scale(&app, 2).await.unwrap();
    f.try_release(&app, &[("web", 1), ("worker", 1)]).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Instances).await, (3, Some(5)), "web was scaled, worker has its default");
    f.scale(&app, 4).await.unwrap();
    assert!(refused(f.scale(&app, 5).await).contains("this would make it 6"));
    assert!(refused(f.try_release(&app, &[("web", 1), ("worker", 2)]).await).contains("instances"));
    assert!(
        refused(f.try_release(&app, &[("a", 0), ("b", 0), ("c", 0)]).await)
            .starts_with("an app may have 2 process types")
    );

    // What gives back is not refused, also while there is too much.
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Instances, Some(1))])).await.unwrap();
    f.scale(&app, 3).await.unwrap();
    f.store.set_stopped(app.id, true).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Instances).await.0, 0);
    assert!(refused(f.store.set_stopped(app.id, false).await).contains("instances"));
}

#[tokio::test]
async fn sizes_count_against_memory_and_cpu() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    f.try_release(&app, &[("web", 2)]).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Memory).await, (1024, Some(3072)));
    assert_eq!(f.used(&ada, Resource::Cpu).await, (4000, Some(10_000)));
    let set = |target: SizeTarget, cpu: &str, memory: &str| {
        let size = PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        f.store.change_size(app.id, SizeKind::Limit, target, size)
    };
    let web = SizeTarget::Type(ProcessType::web());
    assert!(
        refused(set(web.clone(), "", "2g").await)
            .starts_with("ada may have 3072 MiB of memory for instances and tasks")
    );
    set(web.clone(), "0.5", "1g").await.unwrap();
    assert_eq!(f.used(&ada, Resource::Memory).await.0, 2048);
    assert_eq!(f.used(&ada, Resource::Cpu).await.0, 1000);
    assert!(refused(f.scale(&app, 4).await).contains("memory"));
    set(SizeTarget::Instances, "", "64m").await.unwrap();
    let sizes = f.store.sizes(app.id, SizeKind::Limit).await.unwrap();
    let of = |target: &SizeTarget| sizes.size(target, f.store.default_size()).memory.mebibytes();
    assert_eq!((of(&web), of(&SizeTarget::Type("worker".parse().unwrap())), of(&SizeTarget::Tasks)), (1024, 64, 512));
    set(web.clone(), "", "").await.unwrap();
    assert_eq!(f.used(&ada, Resource::Memory).await.0, 128);
}

#[tokio::test]
async fn no_more_is_kept_free_than_may_be_used() {
    let f = small();
    let app = f.try_app("one", &f.user("ada").await).await.unwrap();
    let change = |kind, target: &str, cpu: &str, memory: &str| {
        let size = PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        f.store.change_size(app.id, kind, target.parse().unwrap(), size)
    };
    let refused = |result: Result<SizeChange>| match result {
        Err(StoreError::Refused(text)) => text,
        other => panic!("not refused: {other:?}"),
    };
    let (limit, reserve) = (SizeKind::Limit, SizeKind::Reserve);
    let text = refused(change(reserve, "web", "", "513m").await);
    assert!(text.starts_with("each web instance may use 512 MiB of memory, and 513 MiB would be kept free"), "{text}");
    change(reserve, "web", "", "512m").await.unwrap();
    let text = refused(change(limit, "web", "", "256m").await);
    assert!(text.starts_with("each web instance may use 256 MiB of memory, and 512 MiB would be kept free"), "{text}");
    let text = refused(change(limit, "_default_", "", "256m").await);
    assert!(text.starts_with("each web instance"), "{text}");
    change(limit, "web", "", "512m").await.unwrap();
    change(limit, "_default_", "1", "256m").await.unwrap();
    let text = refused(change(reserve, "_default_", "1.5", "").await);
    assert!(text.starts_with("each instance may use 1 CPUs, and 1.5 would be kept free"), "{text}");

    // One part stays when the other one is set.
    let change = change(reserve, "web", "0.5", "").await.unwrap();
    assert_eq!(change.after, PartialSize { cpu: "0.5".parse().ok(), memory: "512m".parse().ok() });
    let web: SizeTarget = "web".parse().unwrap();
    f.store.undo_size_change(app.id, reserve, web.clone(), change).await.unwrap();
    assert_eq!(f.store.sizes(app.id, reserve).await.unwrap().set(&web), change.before);
    f.store.change_size(app.id, reserve, web.clone(), PartialSize::default()).await.unwrap();
    f.store.undo_size_change(app.id, reserve, web.clone(), change).await.unwrap();
    assert!(f.store.sizes(app.id, reserve).await.unwrap().set(&web).is_empty(), "it was changed again");
}

#[tokio::test]
async fn a_build_has_no_more_than_the_owner_and_few_types_have_sizes() {
    let f = small();
    let app = f.try_app("one", &f.user("ada").await).await.unwrap();
    let change = |target: &str, cpu: &str, memory: &str| {
        let size = PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        f.store.change_size(app.id, SizeKind::Limit, target.parse().unwrap(), size)
    };
    let text = refused(change("_builds_", "", "4g").await);
    assert!(text.starts_with("ada may have 3072 MiB of memory for instances and tasks, and a build no more"), "{text}");
    assert!(refused(change("_builds_", "11", "").await).contains("10 CPUs"));
    change("_builds_", "10", "3g").await.unwrap();
    for n in 0..30 {
        change(&format!("t{n}"), "", "64m").await.unwrap();
    }
    let text = refused(change("t30", "", "64m").await);
    assert!(text.starts_with("an app may have sizes of 30 process types, and this would make it 31"), "{text}");
    change("t3", "", "").await.unwrap();
    change("t30", "", "64m").await.unwrap();
    change("_default_", "", "64m").await.unwrap();
}

#[tokio::test]
async fn logs_are_counted_as_instances_and_tasks_may_write_them() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    f.try_release(&app, &[("web", 2)]).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Logs).await, (60, Some(8192)));
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Logs, Some(90))])).await.unwrap();
    f.scale(&app, 3).await.unwrap();
    assert!(
        refused(f.scale(&app, 4).await)
            .starts_with("ada may have 90 MiB of logs of instances and tasks, and this would make it 120")
    );
}

#[tokio::test]
async fn what_the_database_does_not_know_is_checked_when_it_is_measured() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    let check = |before, after| f.store.check_amount(app.id, Resource::Images, before, after);
    check(0, 51_200).await.unwrap();
    let text = refused(check(51_200, 51_201).await);
    assert!(text.starts_with("ada may have 51200 MiB of images, and this would make it 51201; quota shows"), "{text}");
    check(60_000, 60_000).await.unwrap();
    let next = |before, after| f.store.check_amount_of(ada.id, Resource::Images, before, after);
    next(0, 51_200).await.unwrap();
    assert_eq!(refused(next(0, 51_201).await), text);
    next(60_000, 60_000).await.unwrap();
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Sessions, Some(3))])).await.unwrap();
    assert_eq!(f.store.limit_of(ada.id, Resource::Sessions).await.unwrap(), Some(3));
    let root = f.store.add_user("root".parse().unwrap(), true).await.unwrap();
    assert_eq!(f.store.limit_of(root.id, Resource::Sessions).await.unwrap(), None);
    assert_eq!(f.store.limit_of(root.id, Resource::Repository).await.unwrap(), Some(4096), "it holds for every app");
    let unknown = f.store.quotas(ada.id).await.unwrap().into_iter().filter(|row| row.used.is_none());
    assert_eq!(unknown.count(), 8);
    let limits = f.store.owner_limits(Resource::Written).await.unwrap();
    let ada_has = |max| vec![OwnerLimit { name: ada.name.clone(), max, apps: vec![app.id] }];
    assert_eq!(limits, ada_has(16_384));
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Written, Some(7))])).await.unwrap();
    f.try_app("of-root", &root).await.unwrap();
    assert_eq!(f.store.owner_limits(Resource::Written).await.unwrap(), ada_has(7), "an admin may have any amount");
}

#[tokio::test]
async fn no_more_is_kept_free_than_the_machine_has() {
    let f = fixture();
    f.store.set_capacity(Capacity { cpu_millis: 2000, memory_mib: 1024 });
    let app = f.app("one").await;
    f.try_release(&app, &[("web", 2)]).await.unwrap();
    let reserve = |memory: &str, cpu: &str| {
        let size = PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        f.store.change_size(app.id, SizeKind::Reserve, SizeTarget::Instances, size)
    };
    let limit = PartialSize { cpu: None, memory: "1g".parse().ok() };
    f.store.change_size(app.id, SizeKind::Limit, SizeTarget::Instances, limit).await.unwrap();
    reserve("512m", "1").await.unwrap();
    let text = refused(reserve("513m", "1").await);
    assert!(text.contains("1024 MiB of memory for instances, and this would keep 1026 MiB free"), "{text}");
    assert!(
        refused(reserve("512m", "1.1").await).contains("2 CPUs for instances, and this would keep 2.2 free for them")
    );
    assert!(refused(f.scale(&app, 3).await).starts_with("the machine has"));
    f.scale(&app, 1).await.unwrap();
}

#[tokio::test]
async fn an_owner_keeps_half_of_the_machine_free_at_most() {
    let f = fixture();
    f.store.set_capacity(Capacity { cpu_millis: 3000, memory_mib: 2048 });
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    f.store.add_user("root".parse().unwrap(), true).await.unwrap();
    let running = async |name: &str, owner: &User| {
        let app = f.try_app(name, owner).await.unwrap();
        f.try_release(&app, &[("web", 1)]).await.unwrap();
        app
    };
    let reserve = async |app: &App, memory: &str, cpu: &str| {
        let size = PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        f.store.change_size(app.id, SizeKind::Reserve, SizeTarget::Instances, size).await
    };
    let (one, two) = (running("one", &ada).await, running("two", &ada).await);
    for app in [&one, &two] {
        let limit = PartialSize { cpu: None, memory: "2g".parse().ok() };
        f.store.change_size(app.id, SizeKind::Limit, SizeTarget::Instances, limit).await.unwrap();
    }
    assert_eq!(
        refused(reserve(&one, "1025m", "1").await),
        "ada may keep 1024 MiB of memory for instances free, half of what the machine has, and this would make it 1025 MiB; \
         reserve less (resource:reserve), or scale something down, or an admin takes the app over (access:transfer)"
    );
    reserve(&one, "512m", "1").await.unwrap();
    let text = refused(reserve(&two, "512m", "0.6").await);
    assert!(
        text.starts_with("ada may keep 1.5 CPUs for instances free, half of what"),
        "all apps of ada count: {text}"
    );
    assert!(text.contains("and this would make it 1.6;"), "{text}");
    reserve(&two, "512m", "0.5").await.unwrap();
    let text = refused(f.scale(&two, 2).await);
    assert!(text.starts_with("ada may keep 1024 MiB"), "also when there are more instances: {text}");

    // So something is left for another owner, and an app comes to nobody who may not keep as much.
    let other = running("other", &bob).await;
    reserve(&other, "512m", "1").await.unwrap();
    let text = refused(f.store.transfer(other.id, ada.id, ADMIN).await);
    assert!(text.starts_with("ada may keep 1024 MiB"), "{text}");

    // What was granted before, and less, stays possible.
    f.store.set_admin(ada.id, true).await.unwrap();
    reserve(&one, "1g", "1").await.unwrap();
    let text = refused(f.scale(&two, 2).await);
    assert!(text.starts_with("the machine has 2048 MiB"), "an admin is bound by the machine: {text}");
    f.store.set_admin(ada.id, false).await.unwrap();
    reserve(&one, "1000m", "1").await.unwrap();
    assert!(refused(reserve(&one, "1001m", "1").await).starts_with("ada may keep"));
}

#[tokio::test]
async fn tasks_count_until_they_have_ended() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    let release = f.try_release(&app, &[]).await.unwrap();
    let task = |id: &str| NewTask {
        id: id.parse().unwrap(),
        app: app.id,
        kind: crate::model::TaskKind::Run,
        job: None,
        release: release.number,
        command: crate::model::TaskCommand::Script("true".into()),
        attached: false,
        limit_seconds: 60,
        created_by: "ada".into(),
    };
    let first = f.store.add_task(task("one-run-1"), Placement::AtStart).await.unwrap();
    assert_eq!(f.used(&ada, Resource::Memory).await.0, 512);
    let text = refused(f.store.add_task(task("one-run-2"), Placement::AtStart).await);
    assert!(text.starts_with("ada may have 1 task that runs or waits, and this would make it 2"), "{text}");
    f.store.end_task(first.id, Some(0), None).await.unwrap();
    f.store.add_task(task("one-run-2"), Placement::AtStart).await.unwrap();
}

#[tokio::test]
async fn config_vars_of_an_app_are_bounded_in_all() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    let set = |value: &str| f.store.replace_config_vars(app.id, vars(value));
    set("123456789012345").await.unwrap();
    assert_eq!(f.used(&ada, Resource::Config).await, (20, Some(20)));
    let text = refused(set("1234567890123456").await);
    assert!(text.starts_with("an app may have 20 bytes of config vars, and this would make it 21"), "{text}");
    let new = NewRelease {
        kind: ReleaseKind::Config,
        image: Digest::of(b"image"),
        branch: None,
        commit: None,
        build: None,
        config: vars("1234567890123456"),
        bindings: Bindings::new(),
        processes: vec![],
        manifest: ReleaseManifest::default(),
        description: "test".into(),
        created_by: "me".into(),
    };
    let released = f.store.create_release(app.id, new, Vec::new(), Placement::AtStart).await;
    assert!(refused(released).contains("config vars"));
}

#[tokio::test]
async fn bindings_of_an_app_are_bounded_in_all() {
    let f = small();
    let ada = f.user("ada").await;
    let app = f.try_app("one", &ada).await.unwrap();
    let set = |value: &str| {
        let text = format!(r#"{{ "db": {{ "type": "pg", "values": {{ "k": "{value}" }} }} }}"#);
        f.store.replace_bindings(app.id, serde_json::from_str(&text).unwrap())
    };
    set("AAAAAAAAAAAA").await.unwrap();
    assert_eq!(f.used(&ada, Resource::Bindings).await, (4 + 2 + 1 + 9, Some(20)));
    let text = refused(set("AAAAAAAAAAAAAAAAAAAA").await);
    assert!(text.starts_with("an app may have 20 bytes of service bindings, and this would make it 22"), "{text}");
}

#[tokio::test]
async fn ports_are_bounded_and_rest_before_another_owner_gets_them() {
    let f = small();
    let (ada, bob) = (f.user("ada").await, f.user("bob").await);
    let app = f.try_app("one", &ada).await.unwrap();
    let map = |app: AppId, ports: &[u16]| {
        let mapping = |port: &u16| PortMapping { scheme: PortScheme::Http, host_port: *port, container_port: 8080 };
        f.store.set_port_mappings(app, ports.iter().map(mapping).collect())
    };
    map(app.id, &[10_005, 10_006]).await.unwrap();
    assert!(refused(map(app.id, &[10_004, 10_005, 10_006]).await).starts_with("an app may have 2 port mappings"));
    let second = f.try_app("two", &ada).await.unwrap();
    assert!(refused(map(second.id, &[10_007]).await).starts_with("ada may have 4 ports"));

    f.store.forget_app(app.id).await.unwrap();
    let name: AppName = "theirs".parse().unwrap();
    let theirs = f.try_app(name.as_str(), &bob).await.unwrap();
    let ports: Vec<_> = f.store.port_mappings(theirs.id).await.unwrap().iter().map(|m| m.host_port).collect();
    assert_eq!(ports, [10_002], "10000 was ada's a moment ago, 10001 is");
    let error = map(theirs.id, &[10_005]).await.unwrap_err().to_string();
    assert!(error.starts_with("port 10005 belonged to another owner until a short time ago"), "{error}");
    f.store.set_quotas(ada.id, BTreeMap::from([(Resource::Ports, Some(5))])).await.unwrap();
    map(second.id, &[10_005]).await.unwrap();

    // When all others are taken, the one that has rested the longest is given.
    let last = f.store.create_app("last".parse().unwrap(), Some(bob.id), 10_000..=10_000, vec![]).await.unwrap();
    assert_eq!(f.store.port_mappings(last.id).await.unwrap()[0].host_port, 10_000);
}
