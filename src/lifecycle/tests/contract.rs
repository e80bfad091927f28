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
    let more = "[[buildpack.exec-env]]\nname = \"test\"\n";
    container.buildpack_of("0.12", "tests-only", more, "exit 0", "true");
    assert_eq!(container.group(&[&["tests-only", "any"]]).unwrap(), "any");
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
fn buildpacks_are_detected_in_parallel() {
    let container = Container::new();
    // Each waits for the other, so that they do not pass if they run one after the other.
    let wait = |own: &str, other: &str| {
        format!(
            "touch ../tmp/{own}; for i in $(seq 200); do [ -e ../tmp/{other} ] && exit 0; sleep 0.05; done; exit 100"
        )
    };
    container.buildpack("one", &wait("1", "2"), "true");
    container.buildpack("two", &wait("2", "1"), "true");
    assert_eq!(container.group(&[&["one", "two"]]).unwrap(), "one two");
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
        &format!("{look}\n[ \"$HOME\" != no ]; echo LIB=$LIBRARY_PATH $LD_LIBRARY_PATH"),
    );
    container.buildpack_of("0.10", "clear", "clear-env = true", "true", "echo clear USER_SAYS=$USER_SAYS");
    container.env.insert("CPATH".into(), "/user".into());
    let report = container.build(&[&["one", "two", "clear"]], &[("a", "1")]);
    let own = container.dirs.layers.join("one/l");
    let own = own.display();
    assert!(report.text.contains("USER_SAYS=hi OTHER=layer,more CPATH=/user:layer IGNORED=none"), "{}", report.text);
    assert!(report.text.contains(&format!("{}/bin:{own}/bin:", container.dirs.tmp.display())), "{}", report.text);
    assert!(report.text.contains(&format!("LIB={own}/lib {own}/lib")), "{}", report.text);
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
    let label = "[[labels]]\nkey = \"k\"\nvalue = \"one\"\n";
    container.buildpack("one", "true", &says(&(first.clone() + label)));
    let second = process("web", "two", "args = [\"x\"]") + &process("t", "two", "exec-env = [\"test\"]");
    container.buildpack("two", "true", &says(&(second + &label.replace("one", "two"))));
    let built = container.build(&[&["one", "two"]], &[("a", "1")]).result.unwrap();
    let processes = &self::label(&built, "io.buildpacks.build.metadata")["processes"];
    let json = serde_json::json!([
        { "type": "job", "command": ["one"], "args": [], "direct": true, "default": false, "working-dir": "/d",
          "buildpackID": "one" },
        { "type": "web", "command": ["two"], "args": ["x"], "direct": true, "default": false, "buildpackID": "two" },
    ]);
    assert_eq!(*processes, json);
    assert_eq!(built.labels["k"], "two");
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
    assert_eq!(layers(&built), ["app slice", "app"]);
    assert_eq!(label(&built, "io.buildpacks.lifecycle.metadata")["app"].as_array().unwrap().len(), 2);
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
}

#[test]
fn store_toml_is_restored() {
    let mut container = Container::new();
    let build = r#"
        if [ -f "$1/store.toml" ]; then tr '\n' ' ' < "$1/store.toml"; fi
        printf '[metadata]\nn = 7\nday = 1979-05-27\n' > "$1/store.toml""#;
    container.buildpack("one", "true", build);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
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
}

#[test]
fn a_project_can_contain_buildpacks() {
    let container = Container::new();
    let entry = |id: &str, place| GroupEntry { id: id.into(), version: "1".into(), optional: false, place };
    let inline = protocol::Place::Inline {
        api: "0.10".into(),
        shell: "/bin/bash".into(),
        script: "echo \"inline ${BASH_VERSION:+bash} in $(ls)\"\ntouch made".into(),
    };
    let order = vec![vec![entry("inline", inline), entry("mine", protocol::Place::Source("bp".into()))]];
    let toml = "api = '0.10'\n[buildpack]\nid = 'mine'\nversion = '1'\n";
    let files = [
        ("bp/buildpack.toml", toml),
        ("bp/bin/detect", "#!/bin/sh\n"),
        ("bp/bin/build", "#!/bin/sh\necho mine: $(ls)\n"),
    ];
    let report = container.build_groups(order.clone(), &source(&files));
    report.result.unwrap();
    assert!(report.text.contains("inline bash in bp") && report.text.contains("mine: bp made"), "{}", report.text);
    let error = container.build_groups(order, &source(&[("a", "")])).result.unwrap_err();
    assert!(error.message.starts_with("cannot make the buildpack mine"), "{error}");
}
