//! The contract with buildpacks, rule by rule; `docs/conformance.md` names these tests.

use std::fmt::Write as _;

use super::*;

/// Names of an image's layers above the two of the launcher.
fn layers(built: &Built) -> Vec<&str> {
    built.layers[2..].iter().map(|layer| layer.created_by.as_str()).collect()
}

fn label(built: &Built, name: &str) -> serde_json::Value {
    serde_json::from_str(&built.labels[name]).unwrap()
}

impl Container {
    /// A composite buildpack of these groups.
    fn composite(&self, id: &str, order: &[&[&str]]) {
        let mut text = format!("api = \"0.10\"\n[buildpack]\nid = {id:?}\nversion = \"1\"\n");
        for group in groups(order) {
            text += "[[order]]\n";
            for GroupEntry { id, optional, .. } in group {
                writeln!(text, "[[order.group]]\nid = {id:?}\nversion = \"1\"\noptional = {optional}").unwrap();
            }
        }
        let folder = self.dirs.buildpacks.join(id).join("1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("buildpack.toml"), text).unwrap();
    }

    fn group(&self, order: &[&[&str]]) -> Result<String, String> {
        match self.build(order, &[("a", "1")]).result {
            Ok(built) => Ok(built.buildpacks.iter().map(|b| b.id.as_str()).collect::<Vec<_>>().join(" ")),
            Err(failure) => Err(failure.message),
        }
    }
}

#[test]
fn composite_buildpacks_are_replaced_depth_first() {
    let container = Container::new();
    for (id, detect) in [("a", "exit 0"), ("b", "exit 100"), ("c", "exit 0"), ("d", "exit 0"), ("e", "exit 0")] {
        container.buildpack(id, detect, "true");
    }
    container.composite("o", &[&["a", "b"], &["c", "d"]]);
    container.composite("p", &[&["b"], &["o", "a"]]);
    assert_eq!(container.group(&[&["e", "o"]]).unwrap(), "e c d");
    assert_eq!(container.group(&[&["o", "e"]]).unwrap(), "c d e");
    assert_eq!(container.group(&[&["e", "p"]]).unwrap(), "e c d a");
    assert_eq!(container.group(&[&["c", "o"]]).unwrap(), "c d", "a buildpack takes part once");
    container.composite("none", &[&["b"]]);
    assert!(container.group(&[&["none", "e"]]).is_err());
    assert_eq!(container.group(&[&["none?", "e"]]).unwrap(), "e");
    container.composite("loop", &[&["loop", "e"]]);
    assert!(container.group(&[&["loop"]]).unwrap_err().contains("contains itself"));
    container.composite("lost", &[&["nowhere"]]);
    assert_eq!(container.group(&[&["lost"]]).unwrap_err(), "the buildpack nowhere@1 is not installed");
}

#[test]
fn a_buildpack_for_another_platform_does_not_take_part() {
    let mut container = Container::new();
    container.target.distro_name = "debian".into();
    container.target.distro_version = "13".into();
    let more = "[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"ubuntu\"\n";
    container.buildpack_of("0.10", "ubuntu", more, "exit 0", "true");
    container.buildpack("any", "exit 0", "true");
    assert_eq!(container.group(&[&["ubuntu", "any"], &["any"]]).unwrap(), "any");
    assert_eq!(container.group(&[&["ubuntu?", "any"]]).unwrap(), "any");
    let report = container.build(&[&["ubuntu"]], &[("a", "1")]);
    assert!(report.text.contains("ubuntu@1: its targets do not include linux/ debian 13"), "{}", report.text);
}

#[test]
fn a_buildpack_for_another_execution_environment_does_not_take_part() {
    let container = Container::new();
    container.buildpack("any", "exit 0", "true");
    for (more, group) in [
        ("[[buildpack.exec-env]]\nname = \"test\"\n", "any"),
        ("exec-env = [\"test\"]\n", "any"),
        ("exec-env = [\"test\", \"production\"]\n", "some any"),
        ("exec-env = [\"*\"]\n", "some any"),
    ] {
        container.buildpack_of("0.12", "some", more, "exit 0", "true");
        assert_eq!(container.group(&[&["some", "any"]]).unwrap(), group, "{more}");
    }
    container.buildpack_of("0.11", "some", "exec-env = [\"test\"]\n", "exit 0", "true");
    assert_eq!(container.group(&[&["some", "any"]]).unwrap(), "some any", "the key is new in 0.12");
    container.composite("all", &[&["any", "some"]]);
    let file = container.dirs.buildpacks.join("all/1/buildpack.toml");
    let of_test = fs::read_to_string(&file).unwrap() + "exec-env = [\"test\"]\n";
    for (api, group) in [("0.12", "any"), ("0.10", "any some")] {
        fs::write(&file, of_test.replacen("0.10", api, 1)).unwrap();
        assert_eq!(container.group(&[&["all"]]).unwrap(), group, "API {api}");
    }
}

/// Processes of other environments are in the image, but are none of the app's.
#[test]
fn processes_of_other_execution_environments_are_kept_in_the_metadata() {
    let container = Container::new();
    let toml = "[[processes]]\ntype = \"web\"\ncommand = [\"w\"]\nexec-env = [\"production\", \"x\"]\n\
                [[processes]]\ntype = \"all\"\ncommand = [\"a\"]\nexec-env = [\"*\"]\n\
                [[processes]]\ntype = \"t\"\ncommand = [\"t\"]\nexec-env = [\"test\"]\ndefault = true\n";
    container.buildpack_of("0.12", "one", "", "true", &format!("cat > \"$1/launch.toml\" <<'END'\n{toml}END"));
    let report = container.build(&[&["one"]], &[("a", "1")]);
    let built = report.result.unwrap();
    let processes = &label(&built, "io.buildpacks.build.metadata")["processes"];
    let exec_envs: Vec<_> = (0..3).map(|n| processes[n]["exec-env"].to_string()).collect();
    assert_eq!(exec_envs, [r#"["production","x"]"#, r#"["*"]"#, r#"["test"]"#]);
    assert_eq!(label(&built, "io.buildpacks.lifecycle.metadata")["exec-env"], "production");
    assert_eq!(built.labels["io.buildpacks.exec-env"], "production");
    let types: Vec<_> = built.processes.iter().map(|process| process.process_type.as_str()).collect();
    assert_eq!(types, ["web", "all"]);
    assert_eq!(built.entrypoint, ["/cnb/process/web"], "the default process cannot be started in production");
    let [launcher, config] =
        [0, 1].map(|n| String::from_utf8_lossy(&report.blobs[&built.layers[n].digest]).into_owned());
    assert!(launcher.contains("cnb/process/t\0"), "a platform can start it with CNB_EXEC_ENV=test");
    assert!(config.contains("exec-env = [\"test\"]"), "{config}");
}

#[test]
fn detection_gets_the_arguments_and_variables_of_the_specification() {
    let container = Container::new();
    let detect = r#"
        [ "$1" = "$CNB_PLATFORM_DIR" ] && [ "$2" = "$CNB_BUILD_PLAN_PATH" ] && [ -f "$2" ] && [ ! -s "$2" ]
        [ -f "$CNB_BUILDPACK_DIR/buildpack.toml" ] && [ "$CNB_STACK_ID" = test ] && [ "$CNB_TARGET_OS" = linux ]
        [ -n "${CNB_TARGET_ARCH+x}${CNB_TARGET_DISTRO_NAME+x}" ] && [ -z "${CNB_TARGET_ARCH_VARIANT+x}" ] && [ "$USER_SAYS" = hi ] && [ "$OPERATOR" = says ]
        [ "$(cat "$1/env/USER_SAYS")" = hi ] && [ -f a ] && [ -z "${CNB_EXEC_ENV:-}" ]"#;
    container.buildpack("checks", detect, "true");
    assert_eq!(container.group(&[&["checks"]]).unwrap(), "checks");
    container.buildpack_of("0.12", "newest", "", "[ \"$CNB_EXEC_ENV\" = production ]", "true");
    assert_eq!(container.group(&[&["newest"]]).unwrap(), "newest");
    let more = "clear-env = true";
    container.buildpack_of("0.10", "clear", more, "[ -z \"${USER_SAYS:-}\" ] && [ -f \"$1/env/USER_SAYS\" ]", "true");
    assert_eq!(container.group(&[&["clear"]]).unwrap(), "clear");
}

#[test]
fn service_bindings_are_files_that_detection_and_build_read() {
    let mut container = Container::new();
    container.buildpack("none", "[ -z \"${SERVICE_BINDING_ROOT+x}\" ] && [ ! -e \"$1/bindings\" ]", "true");
    assert_eq!(container.group(&[&["none"]]).unwrap(), "none");

    let large = vec![0xff; protocol::MAX_FRAME + 7];
    for (path, content) in
        [("db/type", &b"postgresql"[..]), ("db/password", b"a\0\n"), ("ca/type", b""), ("ca/store", &large)]
    {
        container.bindings.insert(path.to_owned(), content.to_vec());
    }
    let reads = r#"
        cd "$SERVICE_BINDING_ROOT"; [ "$PWD" = "$(realpath "$CNB_PLATFORM_DIR")/bindings" ] && [ "$(echo *)" = "ca db" ]
        [ "$(cat db/type)" = postgresql ] && [ "$(od -An -tx1 <db/password)" = ' 61 00 0a' ] && [ -e ca/type ] && [ ! -s ca/type ]
        [ "$(stat -c %s ca/store)" = 1048583 ] && [ "$(stat -c %a db/password)" = 400 ]"#;
    container.buildpack("reads", reads, reads);
    container.buildpack_of("0.10", "clear", "clear-env = true", reads, reads);
    assert_eq!(container.group(&[&["reads", "clear"]]).unwrap(), "reads clear");

    // A variable of the user's takes precedence.
    container.env.insert("SERVICE_BINDING_ROOT".to_owned(), "/elsewhere".to_owned());
    container.buildpack("own", "[ \"$SERVICE_BINDING_ROOT\" = /elsewhere ]", "true");
    assert_eq!(container.group(&[&["own"]]).unwrap(), "own");
}

#[test]
fn buildpacks_are_detected_in_parallel_and_once() {
    let container = Container::new();
    // Each waits for the other, so that they do not pass if they run one after the other.
    let wait = |own: &str, other: &str| {
        format!(
            "touch ../tmp/{own}; for i in $(seq 200); do [ -e ../tmp/{other} ] && exit 0; sleep 0.05; done; exit 100"
        )
    };
    container.buildpack("one", &format!("echo x >> ../tmp/runs\n{}", wait("1", "2")), "cat ../tmp/runs");
    container.buildpack("two", &wait("2", "1"), "true");
    container.buildpack("no", "exit 100", "true");
    let report = container.build(&[&["one", "two", "no"], &["one", "two"]], &[("a", "1")]);
    let built = report.result.unwrap();
    assert_eq!(built.buildpacks.len(), 2);
    assert_eq!(
        report.text.lines().filter(|line| line.trim() == "x").count(),
        1,
        "once for both groups: {}",
        report.text
    );
}

#[test]
fn plan_entries_go_to_providers_and_on_if_unmet() {
    let container = Container::new();
    let provides = "printf '[[provides]]\\nname=\"x\"\\n' > \"$2\"";
    let unmet = "grep -q 'v = 1' \"$3\"; printf '[[unmet]]\\nname=\"x\"\\n' > \"$1/build.toml\"";
    container.buildpack("first", provides, unmet);
    container.buildpack("second", provides, "grep -q 'v = 1' \"$CNB_BP_PLAN_PATH\"");
    container.buildpack("third", provides, "[ \"$(grep -c x \"$3\")\" = 0 ]");
    container.buildpack("wants", "printf '[[requires]]\\nname=\"x\"\\n[requires.metadata]\\nv=1\\n' > \"$2\"", "true");
    assert_eq!(container.group(&[&["first", "second", "third", "wants"]]).unwrap(), "first second third wants");
    container.buildpack("first", provides, "printf '[[unmet]]\\nname=\"y\"\\n' > \"$1/build.toml\"");
    let error = container.group(&[&["first", "wants"]]).unwrap_err();
    assert!(error.contains("first/build.toml, key unmet.name"), "{error}");
    container.buildpack("alone", "printf '[[requires]]\\nname=\"z\"\\n' > \"$2\"", "true");
    let report = container.build(&[&["alone"]], &[("a", "1")]);
    assert!(report.text.contains("alone@1 requires z, which no buildpack provides"), "{}", report.text);
    container.buildpack("broken", "echo '= no toml' > \"$2\"", "true");
    let report = container.build(&[&["broken"]], &[("a", "1")]);
    assert!(report.text.contains("broken@1: its build plan cannot be read"), "{}", report.text);
}

#[test]
fn variables_of_user_and_operator_override_layers() {
    let mut container = Container::new();
    let layer = r#"
        mkdir -p "$1/l/env" "$1/l/env.build" "$1/l/bin" "$1/l/lib" "$1/l/include" "$1/l/pkgconfig"
        for name in USER_SAYS OTHER CPATH; do printf layer > "$1/l/env/$name"; done
        printf ,more > "$1/l/env.build/OTHER.append"; printf no > "$1/l/env.build/HOME.default"
        printf '[types]\nbuild=true\n' > "$1/l.toml"
        mkdir -p "$1/ignored/env"; printf x > "$1/ignored/env/IGNORED"; printf '[metadata]\n' > "$1/ignored.toml""#;
    container.buildpack("one", "true", layer);
    let look = r#"echo "USER_SAYS=$USER_SAYS OTHER=$OTHER CPATH=$CPATH IGNORED=${IGNORED:-none} PATH=$PATH""#;
    container.buildpack(
        "two",
        "true",
        &format!("{look}\n[ \"$HOME\" != no ]; echo LIB=$LIBRARY_PATH $LD_LIBRARY_PATH; echo PKG=$PKG_CONFIG_PATH"),
    );
    container.buildpack_of("0.10", "clear", "clear-env = true", "true", "echo clear USER_SAYS=$USER_SAYS");
    container.env.insert("CPATH".into(), "/user".into());
    let report = container.build(&[&["one", "two", "clear"]], &[("a", "1")]);
    let own = container.dirs.layers.join("one/l");
    let own = own.display();
    assert!(report.text.contains("USER_SAYS=hi OTHER=layer,more CPATH=/user:layer IGNORED=none"), "{}", report.text);
    assert!(report.text.contains(&format!("{}/bin:{own}/bin:", container.dirs.tmp.display())), "{}", report.text);
    assert!(report.text.contains(&format!("LIB={own}/lib {own}/lib")), "{}", report.text);
    assert!(report.text.contains(&format!("PKG={own}/pkgconfig")), "{}", report.text);
    assert!(report.text.contains("clear USER_SAYS=layer"), "{}", report.text);
}

#[test]
fn launch_toml_of_several_buildpacks_is_merged() {
    let container = Container::new();
    let says = |text: &str| format!("cat > \"$1/launch.toml\" <<'END'\n{text}\nEND");
    let process = |name: &str, command: &str, more: &str| {
        format!("[[processes]]\ntype = \"{name}\"\ncommand = [\"{command}\"]\n{more}\n")
    };
    let first = process("web", "one", "default = true") + &process("job", "one", "working-dir = \"/d\"");
    let label = "[[bom]]\nname = \"of API 0.6\"\n[[labels]]\nkey = \"k\"\nvalue = \"one\"\n";
    container.buildpack("one", "true", &says(&(first.clone() + label)));
    let second = process("web", "two", "args = [\"x\"]");
    container.buildpack("two", "true", &says(&(second + &label.replace("one", "two"))));
    let built = container.build(&[&["one", "two"]], &[("a", "1")]).result.unwrap();
    let processes = &self::label(&built, "io.buildpacks.build.metadata")["processes"];
    let json = serde_json::json!([
        { "type": "job", "command": ["one"], "args": [], "direct": true, "working-dir": "/d",
          "buildpackID": "one" },
        { "type": "web", "command": ["two"], "args": ["x"], "direct": true, "buildpackID": "two" },
    ]);
    assert_eq!(*processes, json);
    assert_eq!(built.labels["k"], "two");
    assert_eq!(built.labels["io.buildpacks.rebasable"], "true");
    assert_eq!(built.entrypoint, ["/cnb/process/web"], "web is what runs when nothing is the default");
    let source = self::label(&built, "io.buildpacks.project.metadata");
    assert_eq!(source["source"]["type"], "git");

    container.buildpack("dots", "true", &says(&process("web.api-v1_x", "c", "")));
    let built = container.build(&[&["dots"]], &[("a", "1")]).result.unwrap();
    assert_eq!(built.processes[0].process_type.as_str(), "web.api-v1_x");
    container.buildpack_of("0.8", "old", "", "true", &says("[[processes]]\ntype='web'\ncommand='a b'\nargs=['c']"));
    let built = container.build(&[&["old"]], &[("a", "1")]).result.unwrap();
    assert!(!built.processes[0].direct);
    container.buildpack("one", "true", &says(&(first + &process("x", "y", "default = true"))));
    let error = container.group(&[&["one"]]).unwrap_err();
    assert!(error.contains("launch.toml, key processes.default"), "{error}");
}

#[test]
fn slices_get_layers_of_their_own() {
    let container = Container::new();
    let workspace = container.dirs.workspace.display().to_string();
    let slices = format!(
        "[[slices]]\npaths = [\"static/*.[jc]s\", \"{workspace}/pub\"]\n[[slices]]\npaths = [\"../x\", \"none\"]\n"
    );
    container.buildpack("one", "true", &format!("cat > \"$1/launch.toml\" <<'END'\n{slices}END"));
    let files = [("static/a.js", "1"), ("static/b.cs", "1"), ("static/c.ts", "1"), ("pub/d/e", "1"), ("f", "1")];
    let built = container.build(&[&["one"]], &files).result.unwrap();
    assert_eq!(layers(&built), ["app slice", "app slice", "app"], "a slice may be empty");
    assert_eq!(label(&built, "io.buildpacks.lifecycle.metadata")["app"].as_array().unwrap().len(), 3);
}

#[test]
fn bills_of_materials_become_a_layer_and_are_restored() {
    let mut container = Container::new();
    let build = r#"
        if [ -d "$1/dep" ]; then [ -f "$1/dep.sbom.cdx.json" ]; fi
        mkdir -p "$1/dep"; printf '[types]\nlaunch=true\ncache=true\n' > "$1/dep.toml"
        echo '{}' > "$1/dep.sbom.cdx.json"; echo '{}' > "$1/launch.sbom.spdx.json"; echo '{}' > "$1/build.sbom.syft.json""#;
    container.buildpack("one", "true", build);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    assert_eq!(layers(&built), ["software bills of materials", "one:dep", "app"]);
    let metadata = label(&built, "io.buildpacks.lifecycle.metadata");
    assert_eq!(metadata["sbom"]["sha"], built.layers[2].digest.to_string());
    container.after(&built);
    let again = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    assert_eq!(again.layers, built.layers);
    container.buildpack("one", "true", "echo '{}' > \"$1/dep.sbom.xml\"");
    let error = container.group(&[&["one"]]).unwrap_err();
    assert!(error.contains("dep.sbom.xml: a bill of materials ends in one of"), "{error}");
    container.buildpack("one", "true", "ln -sf /dev/zero \"$1/dep.sbom.cdx.json\"");
    let error = container.group(&[&["one"]]).unwrap_err();
    assert!(error.contains("dep.sbom.cdx.json: a bill of materials is a regular file"), "{error}");
    container.buildpack(
        "one",
        "true",
        "printf '[[processes]]\\ntype=\"web\"\\ncommand=[\"a\\\\u0000\"]\\n' > \"$1/launch.toml\"",
    );
    let error = container.group(&[&["one"]]).unwrap_err();
    assert!(error.contains("of web has a NUL character"), "{error}");
}

#[test]
fn what_a_build_without_a_cache_gets_back() {
    let mut container = Container::new();
    let build = r#"
        for layer in launched cached built ignored; do
          if [ -f "$1/$layer.toml" ]; then echo "$layer.toml"; fi
          if [ -f "$1/$layer.sbom.cdx.json" ]; then echo "$layer.sbom"; fi
          if [ ! -f "$1/$layer.toml" ]; then mkdir -p "$1/$layer"; printf '{"of": "%s"}' "$layer" > "$1/$layer.sbom.cdx.json"; fi
        done
        printf '[types]\nlaunch=true\n[metadata]\nv=1\n' > "$1/launched.toml"
        printf '[types]\nlaunch=true\ncache=true\n' > "$1/cached.toml"
        printf '[types]\nlaunch=true\nbuild=true\n' > "$1/built.toml"
        printf '[metadata]\nv=1\n' > "$1/ignored.toml"
        printf '[metadata]\nv=1\n' > "$1/store.toml""#;
    container.buildpack("o/ne", "true", build);
    fs::rename(container.dirs.buildpacks.join("o/ne"), container.dirs.buildpacks.join("o_ne")).unwrap();
    let order: &[&[&str]] = &[&["o/ne"]];
    let first = container.build(order, &[("a", "1")]);
    assert!(!first.text.contains(".toml"), "{}", first.text);
    let sbom =
        |built: &Built| built.layers.iter().find(|layer| layer.created_by.contains("bills")).unwrap().digest.clone();
    let built = first.result.unwrap();
    container.after(&built);
    container.previous_sbom = first.blobs[&sbom(&built)].clone();

    let got = |report: &BuildReport| -> String {
        report
            .text
            .lines()
            .filter_map(|line| {
                line.trim()
                    .strip_suffix(".toml")
                    .or(line.trim().strip_suffix(".sbom"))
                    .map(|_| line.trim().to_owned() + " ")
            })
            .collect()
    };
    let second = container.build(order, &[("a", "1")]);
    assert_eq!(got(&second), "launched.toml launched.sbom cached.toml cached.sbom ");
    assert_eq!(sbom(&second.result.unwrap()), sbom(&built));

    // Without the cache: what is launched alone comes from the previous image.
    let cache = container.dirs.layers.join(".cache");
    fs::remove_dir_all(&cache).unwrap();
    let third = container.build(order, &[("a", "1")]);
    assert_eq!(got(&third), "launched.toml launched.sbom ");
    assert_eq!(third.result.unwrap().layers, built.layers);

    fs::remove_dir_all(&cache).unwrap();
    container.skip_restore = true;
    let fourth = container.build(order, &[("a", "1")]);
    assert_eq!(got(&fourth), "", "everything is made again");
    assert_eq!(fourth.result.unwrap().layers, built.layers);
}

#[test]
fn store_toml_is_restored_and_no_layer() {
    let mut container = Container::new();
    let build = r#"
        if [ -f "$1/store.toml" ]; then tr '\n' ' ' < "$1/store.toml"; fi
        for name in launch build; do printf '[types]\nlaunch = true\n' > "$1/$name.toml"; done
        printf '[types]\nlaunch = true\n[metadata]\nn = 7\nday = 1979-05-27\n' > "$1/store.toml""#;
    container.buildpack("one", "true", build);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    assert_eq!(layers(&built), ["app"], "launch, build and store are not layers");
    let metadata = label(&built, "io.buildpacks.lifecycle.metadata");
    assert_eq!(metadata["buildpacks"][0]["store"]["metadata"], serde_json::json!({ "n": 7, "day": "1979-05-27" }));
    container.after(&built);
    let again = container.build(&[&["one"]], &[("a", "1")]).text;
    assert!(again.contains("n = 7 day = 1979-05-27"), "{again}");
    // Without the cache it comes back with the image.
    fs::remove_dir_all(container.dirs.layers.join(".cache")).unwrap();
    let again = container.build(&[&["one"]], &[("a", "1")]).text;
    assert!(again.contains("[metadata]") && again.contains("n = 7"), "{again}");
    container.buildpack("one", "true", "echo 'metadata = 1' > \"$1/store.toml\"");
    let error = container.group(&[&["one"]]).unwrap_err();
    assert!(error.contains("store.toml, line 1, key metadata"), "{error}");
}

#[test]
fn metadata_of_layers_is_restored_unchanged() {
    let mut container = Container::new();
    let build = r#"
        if [ -f "$1/dep.toml" ]; then tr '\n' ' ' < "$1/dep.toml"; fi
        mkdir -p "$1/dep"
        printf '[types]\nlaunch=true\n[metadata]\nday=2020-01-02\n[[metadata.many]]\nn=1.5\n' > "$1/dep.toml""#;
    container.buildpack("one", "true", build);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    let metadata = label(&built, "io.buildpacks.lifecycle.metadata");
    let data = serde_json::json!({ "day": "2020-01-02", "many": [{ "n": 1.5 }] });
    assert_eq!(metadata["buildpacks"][0]["layers"]["dep"]["data"], data);
    container.after(&built);
    let again = container.build(&[&["one"]], &[("a", "1")]).text;
    assert!(again.contains("day = \"2020-01-02\"") && again.contains("n = 1.5"), "{again}");
    assert!(!again.contains("types"), "{again}");
}

#[test]
fn a_project_can_contain_a_script_as_a_buildpack() {
    let container = Container::new();
    let entry = |id: &str, place| GroupEntry { id: id.into(), version: "1".into(), optional: false, place };
    let inline = protocol::Place::Inline {
        api: "0.10".into(),
        shell: "/bin/bash".into(),
        script: "echo \"inline ${BASH_VERSION:+bash} in $(ls)\"\ntouch made".into(),
    };
    let report = container.build_groups(vec![vec![entry("inline", inline)]], &source(&[("bp/x", "")]));
    report.result.unwrap();
    assert!(report.text.contains("inline bash in bp"), "{}", report.text);
}
