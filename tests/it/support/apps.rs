//! Small apps and buildpacks.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

const SERVE: &str =
    "web: mkdir -p /tmp/s && echo VERSION > /tmp/s/index.html && exec python3 -m http.server --directory /tmp/s $PORT";

/// A `Procfile` whose web process answers `version-n`.
pub fn version(n: u32) -> String {
    SERVE.replace("VERSION", &format!("version-{n}"))
}

/// A buildpack whose app responds with `says` and the files that it found.
pub fn write_buildpack(folder: &Path, id: &str, says: &str) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    let toml = format!("api = \"0.10\"\n[buildpack]\nid = {id:?}\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n");
    fs::write(folder.join("buildpack.toml"), toml).unwrap();
    let build = format!(
        "#!/bin/bash\nset -eu\necho \"-----> {says} builds\"\nmkdir -p site\n\
         echo \"{says} files:$(find . -maxdepth 1 -type f -printf '%f\\n' | sort | tr '\\n' ' ') env:${{BP_SAYS:-none}}\" > site/index.html\n\
         cat > \"$CNB_LAYERS_DIR/launch.toml\" <<'END'\n[[processes]]\ntype = \"web\"\n\
         command = [\"bash\", \"-c\", \"exec python3 -m http.server --directory site $PORT\"]\ndefault = true\nEND\n"
    );
    for (name, text) in [("detect", "#!/bin/bash\n"), ("build", &build)] {
        let path = folder.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
