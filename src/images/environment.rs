//! Environment variables of images, as `NAME=value`.

use std::collections::HashSet;

/// Search path that the engine uses for images without one.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Environment of an image on a base image: `upper` overrides variables of the base, and `path` comes first in the search
/// path.
pub(super) fn merged(base: &[String], upper: &[String], path: &[String]) -> Vec<String> {
    let taken: HashSet<_> = upper.iter().map(|entry| name(entry)).chain(["PATH"]).collect();
    let path = path.iter().map(String::as_str).chain([search_path(base)]).collect::<Vec<_>>().join(":");
    let rest = base.iter().filter(|entry| !taken.contains(name(entry))).chain(upper).cloned();
    std::iter::once(format!("PATH={path}")).chain(rest).collect()
}

/// Environment of an image that is moved from one base image to another.
pub(super) fn rebased(image: &[String], old: &[String], new: &[String]) -> Vec<String> {
    let own = image.iter().filter(|entry| !old.contains(entry) && name(entry) != "PATH");
    let own: Vec<_> = own.cloned().collect();
    let names: Vec<_> = own.iter().map(|entry| name(entry)).collect();
    let of_base = new.iter().filter(|entry| !names.contains(&name(entry)) && name(entry) != "PATH");
    let (path, old_path, new_path) = (search_path(image), search_path(old), search_path(new));
    let prefix = path.strip_suffix(old_path).unwrap_or_default();
    let path = if prefix.is_empty() && path != old_path { path.to_owned() } else { format!("{prefix}{new_path}") };
    std::iter::once(format!("PATH={path}")).chain(of_base.cloned()).chain(own.iter().cloned()).collect()
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// Search path in an environment.
fn search_path(env: &[String]) -> &str {
    env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebase_exchanges_the_variables_of_the_base() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let old = words("PATH=/bin LANG=C OLD=1 KEPT=old");
        let new = words("PATH=/usr/bin LANG=C.UTF-8 NEW=1 KEPT=new");
        let image = words("PATH=/cnb/process:/bin LANG=C OLD=1 KEPT=app APP=1");
        assert_eq!(rebased(&image, &old, &new), words("PATH=/cnb/process:/usr/bin LANG=C.UTF-8 NEW=1 KEPT=app APP=1"));
        assert_eq!(rebased(&words("PATH=/own"), &old, &new)[0], "PATH=/own");
        assert_eq!(rebased(&old, &old, &new), new);
    }
}
