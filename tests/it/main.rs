#![cfg(test)]
mod build;
mod engine;
mod engine_build;
mod engine_support;
