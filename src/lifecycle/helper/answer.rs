//! Answers of the helper's verbs.

/// Output of a verb, or why it has none.
pub(super) type Answer = Result<String, Refusal>;

/// Why a verb prints nothing on its standard output.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Exit status: 1 if the answer is no, 2 if there is no answer.
    pub(super) status: u8,
    /// Printed on the standard error, unless it is empty.
    pub(super) text: String,
}

/// The answer is no; nothing is printed.
pub(super) fn no() -> Refusal {
    Refusal { status: 1, text: String::new() }
}

/// There is no answer, for this reason.
pub(super) fn wrong(text: impl Into<String>) -> Refusal {
    Refusal { status: 2, text: text.into() }
}
