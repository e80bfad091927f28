use std::{collections::BTreeMap, io, path::Path};

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    sample::select,
};

use super::{
    checksum::Checksum,
    descriptor::{Api, Descriptor, check_id, check_version},
    files, plan,
    protocol::{Kind, MAX_FRAME, read_frame, write_frame},
    source,
};
use crate::properties::{assert_message, bytes_near, check, check_one_in, text_near};

fn kind() -> impl Strategy<Value = Kind> {
    select(b"MYRSELBDZ".map(|byte| Kind::try_from(byte).unwrap()).to_vec())
}

#[test]
fn frames_are_read_as_they_are_written() {
    check(vec((kind(), vec(any::<u8>(), 0..300)), 0..6), |frames| {
        let mut wire = Vec::new();
        for (kind, payload) in &frames {
            write_frame(&mut wire, *kind, payload).unwrap();
        }
        let mut from = &wire[..];
        for (kind, payload) in frames {
            assert_eq!(read_frame(&mut from).unwrap(), Some((kind, payload)));
        }
        assert_eq!(read_frame(&mut from).unwrap(), None);
    });
}

#[test]
fn bytes_that_are_no_frames_are_refused() {
    let samples = [&b"L\0\0\0\x02hiZ\0\0\0\0"[..], b"L\0\x0f\xff\xff", b"L\0\x10\0\x01x", b"E\0\0\0\0"];
    check(bytes_near(&samples), |wire| {
        let mut from = &wire[..];
        let mut written = Vec::new();
        while let Ok(Some((kind, payload))) = read_frame(&mut from) {
            assert!(payload.len() <= MAX_FRAME);
            write_frame(&mut written, kind, &payload).unwrap();
        }
        assert!(wire.starts_with(&written));
    });
}

#[test]
fn descriptors_are_read_or_refused_in_one_line() {
    let samples = [
        "api = '0.10'\n[buildpack]\nid = 'a/b'\nversion = '1.2.3'\nname = 'x'\nhomepage = 'https://x'\nclear-env = true\n\
         [[buildpack.exec-env]]\nname = 'production'\n[[targets]]\nos = 'linux'\n[[targets.distros]]\nname = 'debian'\n",
        "api = '0.12'\n[buildpack]\nid = 'a'\nversion = '1'\nexec-env = ['*']\n[[order]]\n[[order.group]]\nid = 'x'\nversion = '1'\n\
         optional = true\n[[stacks]]\nid = 'io.buildpacks.stacks.bionic'\n",
    ];
    check(text_near(&samples), |text| match Descriptor::parse(&text) {
        Ok(read) => {
            for name in [&read.id, &read.version] {
                assert!(name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{name}");
                assert!(name.is_ascii() && name.len() <= 200, "{name}");
            }
            assert_eq!(Api::parse(&read.api.to_string()), Ok(read.api));
        }
        Err(error) => assert_message(&error),
    });
    check(text_near(&["paas/nodejs", "1.2.3", "0.12"]), |text| {
        for error in [check_id(&text).err(), check_version(&text).err(), Api::parse(&text).err()].into_iter().flatten()
        {
            assert_message(&error);
        }
    });
}

#[test]
fn checksums_are_written_as_they_are_read() {
    let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let samples = [
        &format!("sha256:{hex}"),
        hex,
        "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        "sha512-m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==",
    ];
    check(text_near(&samples), |text| match text.parse::<Checksum>() {
        Ok(checksum) => {
            let written = checksum.to_string();
            assert!(matches!(written.len(), 71 | 135) && !written.contains(['/', '.']), "{written}");
            assert_eq!(written.parse(), Ok(checksum));
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn toml_of_buildpacks_is_read_or_refused_in_one_line() {
    let samples = ["[types]\nbuild = true\n[metadata]\nx = 1979-05-27T07:32:00Z\n", "[[a.b]]\nc = [1, {d = 'e'}]\n"];
    check(text_near(&samples), |text| match files::parse_toml::<toml::Table>(&text) {
        Ok(table) => drop(files::json_of(toml::Value::Table(table))),
        Err(error) => assert_message(&error),
    });
}

#[test]
fn build_plans_are_resolved() {
    let name = || select(vec!["a", "b", "c"]);
    let names = || vec(name(), 0..3);
    let plan = vec((names(), names()), 1..4);
    let section = |key: &str, names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| format!("{{name = '{name}'}}")).collect();
        format!("{key} = [{}]\n", entries.join(", "))
    };
    check(vec((plan, any::<bool>()), 0..6), |candidates| {
        let candidates: Vec<_> = candidates
            .iter()
            .enumerate()
            .map(|(at, (alternatives, optional))| {
                let texts = alternatives
                    .iter()
                    .map(|(provides, requires)| section("provides", provides) + &section("requires", requires));
                let text = texts.collect::<Vec<_>>().join("[[or]]\n");
                plan::Candidate { name: at.to_string(), optional: *optional, plan: toml::from_str(&text).unwrap() }
            })
            .collect();
        match plan::resolve(&candidates) {
            Ok(resolved) => {
                let is_left_out = |at: &usize| !resolved.kept.contains(at);
                assert!((0..candidates.len()).filter(is_left_out).all(|at| candidates[at].optional));
                for need in &resolved.needs {
                    assert!(!need.providers.is_empty() && !need.entries.is_empty());
                    assert!(!need.providers.iter().any(is_left_out));
                }
            }
            Err(error) => assert_message(&error),
        }
    });
}

/// All files and folders below a folder, by path.
fn tree(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        found.insert(path.display().to_string(), if kind.is_file() { std::fs::read(&path)? } else { Vec::new() });
        if kind.is_dir() {
            found.extend(tree(&path)?);
        }
    }
    Ok(found)
}

fn source_tar(names: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &b"x\n"[..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link", "../outside").unwrap();
    tar.append_data(&mut tar::Header::new_gnu(), "end", io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_source_is_unpacked_into_its_folder_alone() {
    let samples = [source_tar(&["a/b", "c"]), source_tar(&["link/x", "d"]), source_tar(&[])];
    check_one_in(16, bytes_near(&samples), |bytes| {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("app");
        for folder in [&folder, &around.path().join("outside")] {
            std::fs::create_dir(folder).unwrap();
        }
        if let Err(error) = source::unpack(&bytes[..], &folder) {
            assert!(!error.is_empty());
        }
        let names = tree(around.path()).unwrap();
        let outside = around.path().join("outside");
        let is_expected =
            |name: &&String| Path::new(name).starts_with(&folder) || **name == outside.display().to_string();
        assert_eq!(names.keys().filter(|name| !is_expected(name)).collect::<Vec<_>>(), [""; 0]);
    });
}
