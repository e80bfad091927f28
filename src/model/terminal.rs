//! Terminals.

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Number of columns.
    pub columns: u16,
    /// Number of rows.
    pub rows: u16,
}

impl TerminalSize {
    /// Rows and columns, as the engine wants them; `None` if the client does not know its size.
    #[cfg(feature = "server")]
    pub fn known(self) -> Option<Vec<usize>> {
        (self.rows > 0 && self.columns > 0).then(|| vec![self.rows.into(), self.columns.into()])
    }
}
