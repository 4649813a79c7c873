//! The program as its users meet it: arguments in, files, text and exit status out.

mod bench;
mod common;
mod help;
mod masks;
mod mix;
mod model;
