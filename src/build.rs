//! The build stage: source in, image out.
