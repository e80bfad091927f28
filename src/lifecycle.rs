//! The buildpack lifecycle: what runs inside the build container, and as launcher in every app image.
//! No engine, no database: it sees its container, its standard streams and nothing else.

pub mod protocol;
