mod apps;
mod bindings;
mod buildpacks;
mod builds;
mod config_vars;
mod database;
mod deployments;
mod events;
mod instances;
mod keys;
mod links;
mod members;
mod migrations;
mod networks;
mod offered_images;
mod quotas;
mod registry_logins;
mod releases;
mod stacks;
mod tasks;
mod users;
mod volumes;
mod webhooks;

use std::collections::BTreeMap;

use super::*;
use crate::model::{Address, Bindings, Digest, Distribution, ProcessType, ReleaseManifest, Role, Secret};

/// For tests of what is the same whoever acts.
const ADMIN: Changer = Changer { user: None, admin: true };

struct Fixture {
    store: Store,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    Fixture { store: Store::open(dir.path()).unwrap(), dir }
}

impl Fixture {
    async fn app(&self, name: &str) -> App {
        self.store.create_app(name.parse().unwrap(), None, 10_000..=10_001, vec![]).await.unwrap()
    }

    async fn owned_app(&self, name: &str, owner: &User) -> App {
        self.store.create_app(name.parse().unwrap(), Some(owner.id), 10_000..=10_009, vec![]).await.unwrap()
    }

    async fn user(&self, name: &str) -> User {
        self.store.add_user(name.parse().unwrap(), false).await.unwrap()
    }

    async fn release(&self, app: AppId, kind: ReleaseKind, config: ConfigVars) -> Release {
        self.release_with(app, kind, config, ReleaseManifest::default()).await
    }

    async fn release_with(
        &self,
        app: AppId,
        kind: ReleaseKind,
        config: ConfigVars,
        manifest: ReleaseManifest,
    ) -> Release {
        let new = NewRelease {
            kind,
            image: Digest::of(b"image"),
            branch: Some("main".parse().unwrap()),
            commit: Some("1".repeat(40).parse().unwrap()),
            build: None,
            config,
            bindings: Bindings::new(),
            processes: vec![],
            manifest,
            description: "test".into(),
            created_by: "me".into(),
        };
        self.store.create_release(app, new, Vec::new(), Placement::AtStart).await.unwrap().0
    }
}

fn vars(value: &str) -> ConfigVars {
    BTreeMap::from([("TOKEN".parse().unwrap(), Secret::new(value))])
}

fn new_key(user: &str, fingerprint: &str) -> NewKey {
    NewKey {
        user: user.parse().unwrap(),
        name: None,
        fingerprint: fingerprint.into(),
        public_key: "public".into(),
        admin: false,
        membership: None,
    }
}
