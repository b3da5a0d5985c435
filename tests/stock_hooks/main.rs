//! The stock hooks in the program, as operators and clients meet them: files, signals, `moormq passwd`, and clients.
//!
//! Needs the Debian packages `mosquitto` (for `mosquitto_passwd`), `mosquitto-clients` and `python3`.

mod acl;
mod client;
mod exchange;
mod passwd;
mod password;
mod program;
mod reload;
mod scram;
