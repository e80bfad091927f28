//! The user that an image runs as, in numbers.

use super::{error::Result, store::ImageStore};
use crate::model::Digest;

/// Where an image lists its users (passwd(5)) and groups (group(5)).
const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

impl ImageStore {
    /// User and group id of the image's user: root if it names none, or one that the image does not know. Blocks.
    pub fn user(&self, manifest: &Digest) -> Result<(u32, u32)> {
        let named = self.run_config(manifest)?.user.unwrap_or_default();
        let (user, group) = named.split_once(':').map_or((named.as_str(), None), |(user, group)| (user, Some(group)));
        if user.is_empty() {
            return Ok((0, 0));
        }
        let files = self.files(manifest, &|path| path == PASSWD || path == GROUP)?;
        let text =
            |name: &str| files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        Ok(ids(user, group, &text(PASSWD), &text(GROUP)))
    }
}

/// The numbers of a user and a group, each a name or a number. Without a group, it is that of the user.
fn ids(user: &str, group: Option<&str>, passwd: &str, groups: &str) -> (u32, u32) {
    let row = |text: &str, name: &str| {
        let rows = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        let mut found = rows.filter(|row| row.len() > 2 && (row[0] == name || row[2] == name));
        found.next()
    };
    let number = |text: &str| text.parse::<u32>().ok();
    let known = row(passwd, user);
    let column = |at: usize| known.as_ref().and_then(|row| number(row.get(at)?));
    let uid = number(user).or(column(2)).unwrap_or(0);
    let gid = match group {
        Some(group) => number(group).or_else(|| number(&row(groups, group)?[2])),
        None => column(3),
    };
    (uid, gid.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_rows_of_the_image() {
        const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:999:998::/home/app:/bin/sh\nbroken\n";
        const GROUP: &str = "root:x:0:\nstaff:x:50:app\n";
        let ids = |user: &str, group: Option<&str>| ids(user, group, PASSWD, GROUP);
        assert_eq!(ids("app", None), (999, 998));
        assert_eq!(ids("999", None), (999, 998), "as the engine does, the group of the row");
        assert_eq!(ids("1234", None), (1234, 0));
        assert_eq!(ids("app", Some("staff")), (999, 50));
        assert_eq!(ids("app", Some("7")), (999, 7));
        assert_eq!(ids("nobody", Some("none")), (0, 0));
    }
}
