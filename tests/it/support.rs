//! What the tests share: waiting, commands, streams, images, and worlds to run in.

pub mod api;
pub mod apps;
pub mod command;
pub mod elsewhere;
pub mod engine;
pub mod held;
pub mod http;
pub mod images;
pub mod instances;
pub mod python;
pub mod receiver;
pub mod relay;
pub mod streams;
pub mod terminal;
pub mod waiting;
pub mod world;
