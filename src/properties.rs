//! What the property tests share: how they run, and the strategies for their input. They are the modules `properties` beside the
//! parsers of everything that comes from outside. `make test` runs a few inputs of each, always the same; `make fuzz` runs many,
//! other ones each time.

use std::{
    fmt::Debug,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::{Config, RngSeed, TestRunner},
};
use tokio::io::{AsyncRead, ReadBuf};

/// A parser that takes longer than this for one input, of a few KiB at most, would let its sender stop the server.
const HANG: Duration = Duration::from_secs(10);

/// Maximum length of an error message, in characters. It may repeat 200 characters of its input, which escapes may make longer.
const MAX_MESSAGE: usize = 1000;

/// Tests the property with values of the strategy: `PROPTEST_CASES` of them.
pub(crate) fn check<S: Strategy<Value: Debug>>(strategy: S, property: impl Fn(S::Value)) {
    check_one_in(1, strategy, property);
}

/// As [`check`], with a fraction of the number of values: for properties that need files or connections.
pub(crate) fn check_one_in<S: Strategy<Value: Debug>>(fraction: u32, strategy: S, property: impl Fn(S::Value)) {
    // What is found becomes a unit test beside the parser.
    let mut config = Config { failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    config.cases = config.cases.div_ceil(fraction);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0);
    }
    let tested = TestRunner::new(config).run(&strategy, |value| {
        let begun = Instant::now();
        property(value);
        assert!(begun.elapsed() < HANG, "it took {:?}", begun.elapsed());
        Ok(())
    });
    if let Err(failed) = tested {
        panic!("{failed}");
    }
}

/// Pieces of text that parsers tend to stumble over.
const PIECES: [&str; 66] = [
    "\0",
    "\u{1b}[31m",
    "\u{1b}",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\u{b}",
    "\u{85}",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "ä",
    "e\u{301}",
    "ſ",
    "İ",
    "😀",
    "/",
    "//",
    "..",
    "./",
    ".",
    "-",
    "--",
    "_",
    ":",
    "::",
    "://",
    "@",
    "#",
    "%",
    "%2f",
    "%00",
    "+",
    "0",
    "00",
    "-1",
    "+1",
    "0x10",
    "1e9",
    "65536",
    "4294967296",
    "18446744073709551616",
    "=",
    "$",
    "${",
    "$(",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    "`",
    ",",
    ";",
    "|",
    "<<",
    "*",
    "?",
    "!",
    "~",
    "null",
];

/// Text that is almost one of the samples: changed in a few places, where it loses something, or gets a piece of another
/// sample, something odd, or something long. Sometimes it is nothing but that.
pub(crate) fn text_near(samples: &[&str]) -> BoxedStrategy<String> {
    let samples: Vec<Vec<char>> = samples.iter().map(|sample| sample.chars().collect()).collect();
    let odd = select(&PIECES[..]).prop_map(|piece| piece.chars().collect());
    let one = any::<char>().prop_map(|c| vec![c]);
    near(samples, prop_oneof![3 => odd, 1 => one].boxed()).prop_map(|text| text.into_iter().collect()).boxed()
}

/// The same of bytes, which need not be text.
pub(crate) fn bytes_near<T: AsRef<[u8]>>(samples: &[T]) -> BoxedStrategy<Vec<u8>> {
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.as_ref().to_vec()).collect();
    let odd = select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec());
    let one = any::<u8>().prop_map(|byte| vec![byte]);
    near(samples, prop_oneof![1 => odd, 1 => one].boxed())
}

fn near<T>(samples: Vec<Vec<T>>, odd: BoxedStrategy<Vec<T>>) -> BoxedStrategy<Vec<T>>
where
    T: Debug + Copy + 'static,
{
    let sample = select(samples);
    let part = (sample.clone(), any::<(Index, Index)>()).prop_map(|(sample, (from, to))| {
        let (from, to) = (from.index(sample.len() + 1), to.index(sample.len() + 1));
        sample[from.min(to)..from.max(to)].to_vec()
    });
    let long = (odd.clone(), 1..400usize).prop_map(|(piece, times)| piece.repeat(times));
    let piece = prop_oneof![4 => Just(Vec::new()), 8 => odd, 4 => part, 1 => long].boxed();
    let removed = prop_oneof![2 => Just(0), 2 => 1..4usize, 1 => 0..60usize];
    let edits = vec((any::<Index>(), removed, piece.clone()), 0..5);
    let changed = (sample, edits).prop_map(|(mut text, edits)| {
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece);
        }
        text
    });
    let pieces = vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    prop_oneof![9 => changed, 1 => pieces].boxed()
}

/// Where a stream is cut into the parts in which it arrives.
pub(crate) fn cuts() -> BoxedStrategy<Vec<Index>> {
    vec(any::<Index>(), 0..8).boxed()
}

/// The parts of a stream; some may be empty.
pub(crate) fn parts<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([stream.len()]).collect();
    ends.sort_unstable();
    let begins: Vec<_> = [0].iter().chain(&ends).copied().collect();
    begins.into_iter().zip(ends).map(|(begin, end)| &stream[begin..end]).collect()
}

/// A stream that arrives in parts.
pub(crate) struct Arriving<'a>(Vec<&'a [u8]>);

impl<'a> Arriving<'a> {
    pub(crate) fn new(stream: &'a [u8], cuts: &[Index]) -> Self {
        Self(parts(stream, cuts))
    }
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.iter_mut().find(|part| !part.is_empty()).map_or(Ok(0), |part| part.read(buffer))
    }
}

impl AsyncRead for Arriving<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Fails unless the text is an error message that may be shown: one line that is neither empty nor long, and cannot control a
/// terminal.
pub(crate) fn assert_message(message: &impl ToString) {
    let message = message.to_string();
    assert!(!message.is_empty(), "the message is empty");
    assert_line(&message);
    assert!(message.chars().count() <= MAX_MESSAGE, "it is {} characters long: {message:?}", message.chars().count());
}

/// Fails unless the text is a line that cannot control a terminal, nor reorder what stands on it.
pub(crate) fn assert_line(text: &str) {
    let is_odd =
        |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    assert!(!text.contains(is_odd), "it has a control character: {text:?}");
}

/// Compares a generated file with the committed one; with `UPDATE_SNAPSHOTS=1`, writes it.
pub(crate) fn matches_snapshot(path: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "{path} is out of date: run the unit tests with UPDATE_SNAPSHOTS=1 and read the diff");
}
