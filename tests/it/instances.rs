//! The reconciler on the real engine: deploy, scale, crash, restart, failure, adoption and removal.

use std::process::Command;

use futures_util::StreamExt;
use paas::{
    engine::{ContainerId, ContainerSpec, Kind},
    instances::{InstanceReport, InstancesError, LogEntry, LogSelection, ReportState, RolloutError},
    model::Line,
    progress::Progress,
    store::{App, NewInstance, Placement, ReleaseState},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    command::run,
    instances::{Fixture, SERVE, Server, ask, quick, rollout, settle, uptime},
    waiting::{DEADLINE, until},
};

async fn report(server: &Server, app: &App) -> Vec<InstanceReport> {
    server.instances.report(app.id).await.unwrap()
}

async fn healthy(server: &Server, app: &App) -> Vec<InstanceReport> {
    let mut report = report(server, app).await;
    report.retain(|i| i.state == ReportState::Healthy);
    report
}

fn names(report: &[InstanceReport]) -> Vec<&str> {
    report.iter().map(|i| i.name.as_str()).collect()
}

/// A caller that waits gets the error of the database, and the change is made once the database works again.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_database_are_reported_and_retried() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    f.scale(&app, &[("web", 2)]).await;
    f.sql("ALTER TABLE instances RENAME TO lost");
    let error = settle(&server, &app).await.unwrap_err().to_string();
    assert!(error.contains("no such table") && error.contains("retried until it succeeds"), "{error}");
    f.sql("ALTER TABLE lost RENAME TO instances");
    settle(&server, &app).await.unwrap();
    assert_eq!(names(&healthy(&server, &app).await), ["web.1", "web.2"]);

    // A rollout continues once the error is fixed; until then the caller gets the reason, once.
    let v2 = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    f.sql("ALTER TABLE instances RENAME TO lost");
    let is_fault = |line: &Line| matches!(line, Line::Trouble(text) if text.contains("no such table"));
    let (progress, mut lines) = Progress::channel();
    let (instances, id) = (&server.instances, app.id);
    let rolling = async move {
        let result = instances.rollout(id, v2, &progress, &CancellationToken::new()).await;
        drop(progress);
        result
    };
    let fix = async {
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            if is_fault(&line) {
                settle(&server, &app).await.expect_err("another attempt fails, and is not reported again");
                f.sql("ALTER TABLE lost RENAME TO instances");
            }
            all.push(line);
        }
        all
    };
    let (result, all) = tokio::join!(rolling, fix);
    result.unwrap();
    assert_eq!(all.iter().filter(|line| is_fault(line)).count(), 1, "{all:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_deployed_scaled_stopped_and_removed() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 =
        f.release(&app, &[("web", SERVE, quick(), 1), ("worker", "echo working; exec sleep 600", uptime(), 0)]).await;
    let (result, output) = rollout(&server, &app, v1).await;
    result.unwrap();
    assert!(matches!(&output[..], [Line::Detail(text)] if text.starts_with("web.1 is healthy after ")), "{output:?}");
    let first = healthy(&server, &app).await;
    assert_eq!(names(&first), ["web.1"]);
    assert_eq!(ask(first[0].address.unwrap()).await.unwrap(), "web.1 v1");
    let tag = f.test.engine.images.release_tag(&app.name, 1);
    assert!(
        f.test.engine.images.image_id(&tag).await.unwrap().is_some(),
        "docker image prune removes images without a tag"
    );

    f.scale(&app, &[("web", 3), ("worker", 1)]).await;
    settle(&server, &app).await.unwrap();
    let three = healthy(&server, &app).await;
    assert_eq!(names(&three), ["web.1", "web.2", "web.3", "worker.1"]);
    assert_eq!(three[0], first[0], "the first instance is unchanged");
    for instance in &three[..3] {
        assert_eq!(ask(instance.address.unwrap()).await.unwrap(), format!("{} v1", instance.name));
    }

    f.scale(&app, &[("web", 1), ("worker", 0)]).await;
    settle(&server, &app).await.unwrap();
    until("the other instances are removed", || async { report(&server, &app).await == first }).await;
    let selection = LogSelection { lines: 100, ..LogSelection::default() };
    let lines = server.instances.logs().tail(app.id, selection).await.unwrap();
    let origin = |event| if event { "paas" } else { "app" };
    let show = |entry: LogEntry| format!("{}[{}]: {}", origin(entry.event), entry.source, entry.text);
    let lines: Vec<_> = lines.map(show).collect().await;
    for expected in ["app[web.3]: serving as web.3", "app[worker.1]: working", "paas[web.2]: Healthy after"] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected} in {lines:?}");
    }

    f.store.set_stopped(app.id, true).await.unwrap();
    settle(&server, &app).await.unwrap();
    until("no instance is left", || async { report(&server, &app).await.is_empty() }).await;
    f.store.set_stopped(app.id, false).await.unwrap();
    settle(&server, &app).await.unwrap();
    assert_eq!(names(&healthy(&server, &app).await), ["web.1"]);

    assert!(matches!(server.instances.remove_app(app.id).await, Err(InstancesError::NotDestroying(_))));
    f.store.mark_destroying(app.id).await.unwrap();
    server.instances.remove_app(app.id).await.unwrap();
    assert!(f.test.engine.containers.list(Some(Kind::Instance)).await.unwrap().is_empty());
    assert!(!f.log_folder(&app).exists());
    f.store.forget_app(app.id).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_running_instance_is_restored() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let before = healthy(&server, &app).await;
    server.stop().await;

    let tag = f.test.engine.images.release_tag(&app.name, v1);
    let image = f.store.release(app.id, v1).await.unwrap().unwrap().image;
    let pulled = format!("{}/{}@{image}", f.test.config.registry.listen, app.name);
    run(Command::new("docker").args(["rmi", "--force", &tag, &pulled])).success();
    assert_eq!(f.test.engine.images.image_id(&tag).await.unwrap(), None);
    let server = f.server().await;
    until("the engine has the image again", || async { f.test.engine.images.image_id(&tag).await.unwrap().is_some() })
        .await;
    assert!(f.test.engine.images.image_id(&pulled).await.unwrap().is_some());
    assert_eq!(healthy(&server, &app).await, before, "the instance is unchanged");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_release_replaces_the_old_one_unless_it_is_unhealthy() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 2)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let old = healthy(&server, &app).await;

    let cases = [
        ("echo starting; echo broken >&2; exit 3", "it exited with status 3", None, "broken"),
        ("echo here; exec nope", "it exited with status 127", Some("Procfile"), "here"),
        ("echo hm; exec httpd -f -p 3000 -h /tmp", "it listens on port 3000, not on $PORT (8080)", Some("PORT"), "hm"),
        ("echo hm; exec httpd -f -p 127.0.0.1:8080 -h /tmp", "of localhost only", Some("0.0.0.0"), "hm"),
        ("echo hm; exec sleep 600", "it does not listen on $PORT (8080)", Some("PORT"), "hm"),
    ];
    for (script, reason, hint, printed) in cases {
        let bad = f.release(&app, &[("web", script, quick(), 1)]).await;
        let error = rollout(&server, &app, bad).await.0.unwrap_err();
        let output = error.to_string();
        assert!(output.starts_with("web.") && output.contains(reason) && !output.contains('\n'), "{output}");
        assert!(hint.is_none_or(|hint| output.contains(hint)), "{output}");
        let RolloutError::Unhealthy { log, .. } = error else { panic!("{output}") };
        assert!(log.iter().any(|line| line == printed), "{log:?}");
        assert_eq!(report(&server, &app).await, old, "the old instances are unchanged, and no other is left");
        assert_eq!(f.store.release(app.id, bad).await.unwrap().unwrap().state, ReleaseState::Failed);
    }

    f.scale(&app, &[("web", 2)]).await;
    let good = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    rollout(&server, &app, good).await.0.unwrap();
    let new = healthy(&server, &app).await;
    let serving: Vec<_> = new.iter().filter(|i| i.release == good).collect();
    assert_eq!(serving.len(), 2, "a new release keeps the formation: {new:?}");
    assert_eq!(ask(serving[0].address.unwrap()).await.unwrap(), format!("web.1 v{good}"));
    until("the old instances are removed", || async { report(&server, &app).await.iter().all(|i| i.release == good) })
        .await;

    let before = healthy(&server, &app).await;
    let (progress, _lines) = Progress::channel();
    server.instances.restart(app.id, None, &progress, &CancellationToken::new()).await.unwrap();
    until("both instances are replaced", || async {
        let now = report(&server, &app).await;
        now.len() == 2 && now.iter().all(|i| i.release == good && before.iter().all(|b| b.id != i.id))
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_one_process_type_leaves_the_others_running() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 1), ("worker", "exec sleep 600", uptime(), 1)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let first = healthy(&server, &app).await;
    assert_eq!(names(&first), ["web.1", "worker.1"]);

    let restart = async |process_type: &str| {
        let (progress, _lines) = Progress::channel();
        let (process_type, cancel) = (process_type.parse().unwrap(), CancellationToken::new());
        server.instances.restart(app.id, Some(process_type), &progress, &cancel).await.unwrap();
        settle(&server, &app).await.unwrap();
        until("what was replaced is removed", || async { report(&server, &app).await.len() == 2 }).await;
        healthy(&server, &app).await
    };
    let second = restart("worker").await;
    assert_eq!(second[0], first[0], "the web instance is unchanged");
    assert_ne!(second[1].id, first[1].id);
    assert_eq!(ask(second[0].address.unwrap()).await.unwrap(), format!("web.1 v{v1}"));
    let third = restart("web").await;
    assert_eq!(third[1], second[1], "the worker is unchanged");
    assert_ne!(third[0].id, second[0].id);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_instance_is_replaced_at_once_and_then_with_back_off() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 2)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let before = healthy(&server, &app).await;
    f.test.engine.containers.kill(&ContainerId::from(&before[0].id)).await.unwrap();
    until("the killed instance is replaced", || async {
        let now = healthy(&server, &app).await;
        now.len() == 2 && now[0].id != before[0].id
    })
    .await;
    let after = healthy(&server, &app).await;
    assert_eq!((after[0].name.as_str(), after[0].restarts), ("web.1", 1));
    assert_ne!(after[0].address, before[0].address, "the address is not used again at once");
    assert_eq!(after[1], before[1], "the other instance is unchanged");

    f.test.engine.containers.kill(&ContainerId::from(&after[0].id)).await.unwrap();
    until("its successor waits for the back-off", || async {
        report(&server, &app).await.iter().any(|i| i.state == ReportState::Waiting && i.restarts == 2)
    })
    .await;
    until("both instances are healthy", || async { healthy(&server, &app).await.len() == 2 }).await;

    // An instance that never becomes healthy is reported, and the formation is unchanged.
    let crashing = f.release(&app, &[("web", SERVE, quick(), 1), ("worker", "echo oh no; exit 4", uptime(), 0)]).await;
    rollout(&server, &app, crashing).await.0.unwrap();
    f.scale(&app, &[("worker", 1)]).await;
    let error = settle(&server, &app).await.unwrap_err();
    assert_eq!(error.to_string(), "worker.1 did not become healthy: it exited with status 4");
    assert!(matches!(error, RolloutError::Unhealthy { log, .. } if log == ["oh no"]));
    f.scale(&app, &[("worker", 0)]).await;
    settle(&server, &app).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_adopts_running_instances_and_replaces_the_others() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 3)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let before = healthy(&server, &app).await;
    server.stop().await;

    // While no server runs, one instance is killed, another one's container is removed, and a container with this server's
    // labels but without a row appears; and a rollout was interrupted between its row and its container.
    f.test.engine.containers.kill(&ContainerId::from(&before[1].id)).await.unwrap();
    f.test.engine.containers.remove(&ContainerId::from(&before[2].id)).await.unwrap();
    let stray: ContainerSpec = f.test.instance(900, "exec sleep 600");
    let stray_id = f.test.engine.containers.create_workload(&stray).await.unwrap();
    f.test.engine.containers.start(&stray_id).await.unwrap();
    let v2 = f.release(&app, &[("web", SERVE, quick(), 3)]).await;
    let cut_off = f.store.begin_deployment(app.id, v2, None).await.unwrap().unwrap();
    let orphan = NewInstance {
        id: format!("hello-web-1-orphan{:08x}", rand::random::<u32>()).parse().unwrap(),
        app: app.id,
        generation: cut_off.generation,
        release: v2,
        process_type: "web".parse().unwrap(),
        ordinal: 1,
        restarts: 0,
        not_before: 0,
        port: 8080,
        last_failure: None,
    };
    f.store.add_instance(orphan, Placement::Local(f.config.address_plan().unwrap())).await.unwrap();

    let server = f.server().await;
    settle(&server, &app).await.unwrap();
    until("only three instances are left", || async { report(&server, &app).await.len() == 3 }).await;
    let after = healthy(&server, &app).await;
    assert_eq!(names(&after), ["web.1", "web.2", "web.3"]);
    assert_eq!(after[0], before[0], "the running instance is adopted");
    assert!(after.iter().all(|i| i.release == v1), "the release that was not committed is abandoned");
    assert_ne!((&after[1].id, &after[2].id), (&before[1].id, &before[2].id));
    for instance in &after {
        assert_eq!(ask(instance.address.unwrap()).await.unwrap(), format!("{} v1", instance.name));
    }
    let containers = f.test.engine.containers.list(Some(Kind::Instance)).await.unwrap();
    assert_eq!(containers.len(), 3, "{containers:?}");
    let lines = || async {
        let selection = LogSelection { lines: 1000, ..LogSelection::default() };
        let lines = server.instances.logs().tail(app.id, selection).await.unwrap();
        lines.map(|entry| entry.text).collect::<Vec<_>>().await
    };
    let count = |lines: &[String], text: &str| lines.iter().filter(|line| *line == text).count();
    until("the new instances have logged", || async {
        let lines = lines().await;
        ["serving as web.2", "serving as web.3"].iter().all(|text| count(&lines, text) == 2)
    })
    .await;
    let lines = lines().await;
    assert_eq!(count(&lines, "serving as web.1"), 1, "the adopted instance's log is not read twice: {lines:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_release_supersedes_a_rollout_and_cancelling_abandons_it() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let v1 = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let old = report(&server, &app).await;

    let mut patient = quick();
    patient.attempts = 600;
    let endless = f.release(&app, &[("web", "exec sleep 600", patient, 1)]).await;
    let (cancel, (progress, _lines)) = (CancellationToken::new(), Progress::channel());
    let rolling = server.instances.rollout(app.id, endless, &progress, &cancel);
    let cancelling = async {
        until("the new instance is started", || async { report(&server, &app).await.len() == 2 }).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(rolling, cancelling);
    assert!(matches!(result, Err(RolloutError::Cancelled)), "{result:?}");
    assert_eq!(report(&server, &app).await, old);

    let v3 = f.release(&app, &[("web", SERVE, quick(), 1)]).await;
    let slow = rollout(&server, &app, endless);
    let newer = async {
        until("the new instance is started", || async { report(&server, &app).await.len() == 2 }).await;
        rollout(&server, &app, v3).await.0
    };
    let ((slow, _), newer) = tokio::join!(slow, newer);
    assert!(matches!(slow, Err(RolloutError::Superseded)), "{slow:?}");
    newer.unwrap();
    until("only the newest release is left", || async {
        let left = report(&server, &app).await;
        left.len() == 1 && left[0].release == v3
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_the_log_gives_each_line_once() {
    let f = Fixture::new().await;
    let server = f.server().await;
    let app = f.app().await;
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done";
    let v1 = f.release(&app, &[("worker", script, uptime(), 1)]).await;
    rollout(&server, &app, v1).await.0.unwrap();
    let source = Some("worker".parse().unwrap());
    let selection = LogSelection { lines: 2, source, follow: true, ..LogSelection::default() };
    let follow = server.instances.logs().tail(app.id, selection).await.unwrap();
    let lines = follow.filter(|entry| std::future::ready(!entry.event)).take(40).map(|entry| entry.text);
    let lines: Vec<_> = tokio::time::timeout(DEADLINE, lines.collect()).await.unwrap();
    let numbers: Vec<u32> = lines.iter().map(|l| l.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "each line once, in order: {numbers:?}");
    server.stop().await;
}
