//! What happens in a build container: reads the request, does it, and reports the result.

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::PathBuf,
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{
    bindings, builder, cache,
    clock::Clock,
    detector,
    dirs::Dirs,
    dockerfile, downloads, exporter,
    failure::Failure,
    files, init,
    line_ends::{self, Remedy},
    output::Output,
    program_env,
    programs::ProcessGroups,
    protocol::{BuildRequest, BuildResult, Built, BuiltImage, Kind, Phase, Request, read_frame},
    source::{self, SourceReader},
    text_files,
};
use crate::model::Encoding;

/// Does what one request asks for, over the standard streams.
pub(super) fn run() -> ExitCode {
    // Programs of the same user could otherwise open our streams under /proc and write frames to them.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // A program that crashes in the app's folder would leave its memory, with variables and bindings, in the image.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if rustix::process::getpid().is_init() {
        return init::run();
    }
    let (Ok(stdin), Ok(stdout)) = (io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned())
    else {
        return ExitCode::FAILURE;
    };
    let output = Output::new(File::from(stdout));
    let groups = ProcessGroups::default();
    let result = answer(&Dirs::default(), File::from(stdin), &output, &groups, |mut stdin, groups| {
        groups.own_container();
        // The input ends when the server closes its end: the build has no client any more.
        std::thread::spawn(move || {
            let _ = io::copy(&mut stdin, &mut io::sink());
            groups.kill();
            std::process::exit(1);
        });
    });
    let result = result.unwrap_or_else(|Failure { phase, message }| BuildResult::Failed { phase, message });
    match output.result(&result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads a request and the source, and does what it asks for; `watch` gets the rest of the input once the source is read.
pub(super) fn answer<R: Read>(
    dirs: &Dirs,
    mut input: R,
    output: &Output,
    groups: &ProcessGroups,
    watch: impl FnOnce(R, ProcessGroups),
) -> Result<BuildResult, Failure> {
    let (request, mut clock) = receive_request(dirs, &mut input, output)?;
    for folder in [&dirs.workspace, &dirs.tmp, &dirs.platform] {
        files::empty(folder, &[]).map_err(Failure::io(Phase::Prepare, "empty", folder))?;
    }
    // The app's layer has it, and the build before may have changed it.
    fs::set_permissions(&dirs.workspace, fs::Permissions::from_mode(0o755)).map_err(Failure::io(
        Phase::Prepare,
        "open",
        &dirs.workspace,
    ))?;
    if let Request::Buildpacks(request) = &request {
        let received = bindings::receive(dirs, &request.bindings, &mut input);
        received.map_err(|e| prepare(format!("cannot write the service bindings: {e}")))?;
    }
    let mut tar = SourceReader::new(&mut input);
    let previous_sbom = previous_sbom(dirs, &request, &mut tar)
        .map_err(|e| prepare(format!("the bills of materials of the previous image are incomplete: {e}")))?;
    let unpacked = source::unpack(&mut tar, &dirs.workspace).map_err(prepare)?;
    tar.finish().map_err(|e| prepare(format!("the source is incomplete: {e}")))?;
    watch(input, groups.clone());
    match request {
        Request::Buildpacks(request) => {
            let source = UnpackedSource { entries: unpacked, previous_sbom };
            let built = build(dirs, &request, source, output, groups, &mut clock)?;
            Ok(BuildResult::Built(Box::new(Built { timings: clock.laps, ..built })))
        }
        Request::Dockerfile(request) => {
            let image = dockerfile::build(dirs, &request, output, groups, &mut clock)?;
            Ok(BuildResult::Image(Box::new(BuiltImage { timings: clock.laps, ..image })))
        }
        Request::Offer { name } => dockerfile::offer(dirs, &name, output, groups).map(|()| BuildResult::Done),
        Request::Fetch { image, insecure, operator_env } => {
            dockerfile::fetch(dirs, &image, insecure, &operator_env, output, groups)
                .map(|tar| BuildResult::Fetched { tar })
        }
        Request::Withdraw { name } => dockerfile::withdraw(dirs, &name, output, groups).map(|()| BuildResult::Done),
    }
}

/// What came with a request.
struct UnpackedSource {
    /// Number of files and folders.
    entries: usize,
    /// The previous image's layer of bills of materials.
    previous_sbom: Option<File>,
}

/// The layer that precedes the source, in an unnamed file.
fn previous_sbom(dirs: &Dirs, request: &Request, tar: &mut impl Read) -> io::Result<Option<File>> {
    let size = match request {
        Request::Buildpacks(request) => request.previous_sbom_bytes,
        Request::Dockerfile(_) | Request::Offer { .. } | Request::Fetch { .. } | Request::Withdraw { .. } => 0,
    };
    if size == 0 {
        return Ok(None);
    }
    let mut file = files::unnamed(&dirs.tmp)?;
    if io::copy(&mut tar.take(size), &mut file)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.rewind()?;
    Ok(Some(file))
}

fn prepare(message: String) -> Failure {
    Failure::new(Phase::Prepare, message)
}

/// Reads the request; a standby container first learns on which disk it is.
fn receive_request(dirs: &Dirs, input: &mut impl Read, output: &Output) -> Result<(Request, Clock), Failure> {
    let first = match read_frame(input) {
        Ok(Some((Kind::Disk, device))) => {
            check_disk(dirs, &device)?;
            output.ready().map_err(|e| prepare(e.to_string()))?;
            read_frame(input)
        }
        first => first,
    };
    let clock = Clock::new();
    match first {
        Ok(Some((Kind::Request, text))) => {
            Ok((serde_json::from_slice(&text).map_err(|e| prepare(e.to_string()))?, clock))
        }
        _ => Err(prepare("the server sent no request".to_owned())),
    }
}

/// Has buildpacks build the source in the app's folder.
fn build(
    dirs: &Dirs,
    request: &BuildRequest,
    source: UnpackedSource,
    output: &Output,
    groups: &ProcessGroups,
    clock: &mut Clock,
) -> Result<Built, Failure> {
    cache::recover(dirs).map_err(Failure::io(Phase::Prepare, "clean", &dirs.layers))?;
    let tools = dirs.tmp.join("bin");
    fs::create_dir_all(&tools).map_err(Failure::io(Phase::Prepare, "make", &tools))?;
    let home = dirs.tmp.join("home");
    fs::create_dir_all(&home).map_err(Failure::io(Phase::Prepare, "make", &home))?;
    std::os::unix::fs::symlink(&dirs.lifecycle, tools.join("bp")).map_err(Failure::io(
        Phase::Prepare,
        "make",
        &tools,
    ))?;
    program_env::write_platform(dirs, &request.env).map_err(Failure::io(Phase::Prepare, "write", &dirs.platform))?;
    rewrite_text_files(dirs, output)?;
    clock.lap(Phase::Prepare);

    let files = if source.entries == 1 { "file" } else { "files" };
    output.step(format!("Detecting ({} {files})", source.entries));
    let detected = detector::detect(dirs, request, groups, output)?;
    clock.lap(Phase::Detect);
    let restored = cache::restore(dirs, request, &detected, source.previous_sbom, output)?;
    clock.lap(Phase::Restore);
    let contributions = builder::build(dirs, request, &detected, groups, output)?;
    clock.lap(Phase::Build);
    output.step("Exporting layers");
    let exported = exporter::export(dirs, request, &detected, &contributions, &restored, output)?;
    if let Err(error) = cache::commit(dirs, &detected, &contributions, &exported.tars) {
        output.trouble(format!("nothing is cached for the next build: {error}"));
    }
    downloads::share(dirs, output);
    clock.lap(Phase::Export);
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let summary: Vec<_> = clock.laps.iter().map(|(phase, ms)| format!("{} {}", name(*phase), seconds(*ms))).collect();
    output.detail(summary.join(", "));
    if contributions.durations.len() > 1 {
        let times = detected.group.iter().zip(&contributions.durations);
        let times: Vec<_> = times.map(|(b, time)| format!("{} {:.1} s", b.about.id, time.as_secs_f32())).collect();
        output.detail(format!("of the build: {}", times.join(", ")));
    }
    Ok(exported.built)
}

/// Rewrites files as Windows editors save them, and says so.
fn rewrite_text_files(dirs: &Dirs, output: &Output) -> Result<(), Failure> {
    let failed = |what| Failure::io(Phase::Prepare, what, &dirs.workspace);
    let rewritten = text_files::rewrite(&dirs.workspace).map_err(failed("rewrite the text files in"))?;
    let of = |encoding| rewritten.iter().filter(move |file| file.encoding == encoding).map(|file| &file.path);
    if let Some(files) = first_of(of(Encoding::Utf16)) {
        output.trouble(format!(
            "UTF-16 text was converted to UTF-8 ({files}): save it as UTF-8, which is all that most tools read"
        ));
    }
    if let Some(files) = first_of(of(Encoding::Utf8WithMark)) {
        output.detail(format!("A byte order mark was removed ({files})"));
    }
    let scripts = line_ends::convert_scripts(&dirs.workspace).map_err(failed("convert the line ends in"))?;
    if let Some((script, others)) = scripts.split_first() {
        output.trouble(line_ends::message(script, Remedy::Converted));
        if let Some(others) = first_of(others.iter()) {
            output.detail(format!("The same goes for {others}"));
        }
    }
    Ok(())
}

/// The first paths of a list, and how many more there are; `None` if it is empty.
fn first_of<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Option<String> {
    const SHOWN: usize = 5;
    let paths: Vec<_> = paths.collect();
    let shown: Vec<_> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!paths.is_empty()).then(|| shown.join(", ") + &more)
}

/// Checks that a disk that was mounted after the container's start is visible in it.
fn check_disk(dirs: &Dirs, device: &[u8]) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Phase::Prepare, message);
    let device: u64 = serde_json::from_slice(device).map_err(|e| failed(e.to_string()))?;
    for folder in [&dirs.layers, &dirs.workspace, &dirs.tmp] {
        let found = fs::metadata(folder).map_err(Failure::io(Phase::Prepare, "find", folder))?.dev();
        if found != device {
            return Err(failed(format!("{} is not on the build disk", folder.display())));
        }
    }
    Ok(())
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Detect => "detect",
        Phase::Restore => "restore",
        Phase::Build => "build",
        Phase::Export => "export",
    }
}
