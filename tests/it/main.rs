#![cfg(test)]
mod engine;
mod engine_build;
mod engine_support;
mod instances;
mod instances_support;
