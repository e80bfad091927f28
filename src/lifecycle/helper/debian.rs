//! Debian packages: which versions are available, and unpacking into a layer.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use super::{
    answer::{Answer, wrong},
    layers::{layer, layer_name},
    options::check_options,
};
use crate::{
    lifecycle::{
        apt::{self, CandidateError, Request},
        files,
    },
    model::Line,
};

pub(super) fn apt(words: &[&str]) -> Answer {
    let (options, words): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("--"));
    let valued = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let (suite, daily) = (valued("--suite"), valued("--daily"));
    let alone: Vec<&str> = options.iter().copied().filter(|option| !option.contains('=')).collect();
    check_options("apt", &alone, &["--candidate", "--run", "--build"], &[])?;
    if let Some(unknown) =
        options.iter().find(|o| o.contains('=') && !o.starts_with("--suite=") && !o.starts_with("--daily="))
    {
        return Err(wrong(format!("bp apt: there is no option {unknown}")));
    }
    if alone.contains(&"--candidate") {
        let request = Request { packages: &words, suite };
        let look_up = || apt::candidates(&std::env::temp_dir(), request);
        return daily.map_or_else(
            || look_up().map_err(|e| wrong(e.to_string())),
            |layers| daily_candidates(today(), Path::new(layers), request, look_up),
        );
    }
    let [layers, name, packages @ ..] = words.as_slice() else {
        return Err(wrong("bp apt: LAYERS and NAME are missing"));
    };
    let layer = Path::new(layers).join(layer_name(name)?);
    let image = if alone.contains(&"--build") { apt::Image::Build } else { apt::Image::Run };
    apt::unpack(&std::env::temp_dir(), &layer, image, Request { packages, suite }).map_err(wrong)
}

/// Days since 1970, UTC.
fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400)
}

/// Looks the versions up once a day, and keeps the answer in the cached layer `debian`: images get Debian's updates, and not
/// every build needs the network. While Debian does not answer, the last answer is used, so that cached layers are kept.
fn daily_candidates(
    day: u64,
    layers: &Path,
    request: Request<'_>,
    look_up: impl FnOnce() -> Result<String, CandidateError>,
) -> Answer {
    let key = format!("{} {}", request.suite.unwrap_or_default(), request.packages.join(" "));
    layer(layers, "debian", &["--cache", "--key", &key])?;
    let file = layers.join("debian/answer");
    let last = files::read_text(&file).map_err(wrong)?;
    let last = last.as_deref().and_then(|text| text.split_once('\n'));
    if let Some((answered, versions)) = last
        && answered == day.to_string()
    {
        return Ok(versions.to_owned());
    }
    match (look_up(), last) {
        (Ok(versions), _) => {
            // A restored file is a link to the cache of the last good build.
            let removed =
                fs::remove_file(&file).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
            let written = removed.and_then(|()| fs::write(&file, format!("{day}\n{versions}")));
            written.map_err(|e| wrong(format!("cannot write {}: {e}", file.display())))?;
            Ok(versions)
        }
        (Err(CandidateError::NoAnswer(why)), Some((_, versions))) => {
            let warning = format!(
                "Debian's packages cannot be looked up ({why}): those of the last build are used; push again later for newer ones"
            );
            let _ = writeln!(io::stderr(), "{}", Line::Trouble(Line::sanitize(&warning)));
            Ok(versions.to_owned())
        }
        (Err(error), _) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_answer() -> Result<String, CandidateError> {
        Err(CandidateError::NoAnswer("no route".to_owned()))
    }

    #[test]
    fn one_answer_is_used_all_day() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request { packages: &["rustc"], suite: None };
        assert!(daily_candidates(1, dir.path(), request, no_answer).is_err());
        assert_eq!(daily_candidates(1, dir.path(), request, || Ok("rustc 1".to_owned())).unwrap(), "rustc 1");
        assert_eq!(daily_candidates(1, dir.path(), request, || panic!("the answer is kept")).unwrap(), "rustc 1");
        assert_eq!(daily_candidates(2, dir.path(), request, || Ok("rustc 2".to_owned())).unwrap(), "rustc 2");
        let other = Request { suite: Some("bookworm"), ..request };
        assert_eq!(daily_candidates(2, dir.path(), other, || Ok("rustc 0".to_owned())).unwrap(), "rustc 0");
    }

    #[test]
    fn an_earlier_answer_is_used_while_debian_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request { packages: &["rustc"], suite: None };
        daily_candidates(1, dir.path(), request, || Ok("rustc 1".to_owned())).unwrap();
        assert_eq!(daily_candidates(2, dir.path(), request, no_answer).unwrap(), "rustc 1");
        // Other errors are reported, and other packages have no answer yet.
        let gone = || Err(CandidateError::Refused("Debian has no package rustc".to_owned()));
        assert_eq!(daily_candidates(2, dir.path(), request, gone).unwrap_err().text, "Debian has no package rustc");
        let other = Request { packages: &["rustc-web"], ..request };
        let why = daily_candidates(2, dir.path(), other, no_answer).unwrap_err().text;
        assert_eq!(why, "Debian's packages cannot be looked up (no route): push again");
    }

    #[test]
    fn the_cache_of_the_last_build_is_not_written_into() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let request = Request { packages: &["rustc"], suite: None };
        daily_candidates(1, dir.path(), request, || Ok("rustc 1".to_owned())).unwrap();
        let link = cache.path().join("answer");
        fs::hard_link(dir.path().join("debian/answer"), &link).unwrap();
        daily_candidates(2, dir.path(), request, || Ok("rustc 2".to_owned())).unwrap();
        assert_eq!(fs::read_to_string(link).unwrap(), "1\nrustc 1");
    }
}
