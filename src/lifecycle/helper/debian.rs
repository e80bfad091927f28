//! Debian's packages: which versions there are, and what is unpacked into a layer.

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
        apt::{self, CandidateError, Wanted},
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
        let wanted = Wanted { packages: &words, suite };
        let ask = || apt::candidates(&std::env::temp_dir(), wanted);
        return daily.map_or_else(
            || ask().map_err(|e| wrong(e.to_string())),
            |layers| candidates_of(today(), Path::new(layers), wanted, ask),
        );
    }
    let [layers, name, packages @ ..] = words.as_slice() else {
        return Err(wrong("bp apt: LAYERS and NAME are missing"));
    };
    let layer = Path::new(layers).join(layer_name(name)?);
    let lacking_in = if alone.contains(&"--build") { apt::Image::Build } else { apt::Image::Run };
    apt::unpack(&std::env::temp_dir(), &layer, lacking_in, Wanted { packages, suite }).map_err(wrong)
}

/// Days since 1970, UTC.
fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400)
}

/// The same answer all day, in the cached layer `debian`: an image gets what Debian mended, and not every build asks. While
/// Debian does not answer, an earlier day's stands, so that nothing which is cached is thrown away for that.
fn candidates_of(
    day: u64,
    layers: &Path,
    wanted: Wanted<'_>,
    ask: impl FnOnce() -> Result<String, CandidateError>,
) -> Answer {
    let key = format!("{} {}", wanted.suite.unwrap_or_default(), wanted.packages.join(" "));
    layer(layers, "debian", &["--cache", "--key", &key])?;
    let file = layers.join("debian/answer");
    let last = files::read_text(&file).map_err(wrong)?;
    let last = last.as_deref().and_then(|text| text.split_once('\n'));
    if let Some((asked, versions)) = last
        && asked == day.to_string()
    {
        return Ok(versions.to_owned());
    }
    match (ask(), last) {
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
    fn one_answer_serves_the_whole_day() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { packages: &["rustc"], suite: None };
        assert!(candidates_of(1, dir.path(), wanted, no_answer).is_err());
        assert_eq!(candidates_of(1, dir.path(), wanted, || Ok("rustc 1".to_owned())).unwrap(), "rustc 1");
        assert_eq!(candidates_of(1, dir.path(), wanted, || panic!("it is known")).unwrap(), "rustc 1");
        assert_eq!(candidates_of(2, dir.path(), wanted, || Ok("rustc 2".to_owned())).unwrap(), "rustc 2");
        let other = Wanted { suite: Some("bookworm"), ..wanted };
        assert_eq!(candidates_of(2, dir.path(), other, || Ok("rustc 0".to_owned())).unwrap(), "rustc 0");
    }

    #[test]
    fn an_earlier_answer_stands_while_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { packages: &["rustc"], suite: None };
        candidates_of(1, dir.path(), wanted, || Ok("rustc 1".to_owned())).unwrap();
        assert_eq!(candidates_of(2, dir.path(), wanted, no_answer).unwrap(), "rustc 1");
        // It is asked for again, and what the layer is for is no lie.
        let gone = || Err(CandidateError::Refused("Debian has no package rustc".to_owned()));
        assert_eq!(candidates_of(2, dir.path(), wanted, gone).unwrap_err().text, "Debian has no package rustc");
        let other = Wanted { packages: &["rustc-web"], ..wanted };
        let why = candidates_of(2, dir.path(), other, no_answer).unwrap_err().text;
        assert_eq!(why, "Debian's packages cannot be looked up (no route): push again");
    }

    #[test]
    fn the_cache_of_the_last_build_is_not_written_into() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let wanted = Wanted { packages: &["rustc"], suite: None };
        candidates_of(1, dir.path(), wanted, || Ok("rustc 1".to_owned())).unwrap();
        let link = cache.path().join("answer");
        fs::hard_link(dir.path().join("debian/answer"), &link).unwrap();
        candidates_of(2, dir.path(), wanted, || Ok("rustc 2".to_owned())).unwrap();
        assert_eq!(fs::read_to_string(link).unwrap(), "1\nrustc 1");
    }
}
