mod client;
mod connecting;
mod credit;
mod engine;
mod failure;
mod interrupt;
mod ledger;
mod process;
mod run;
mod sample;
mod scenario;
mod stamp;
mod traffic;
mod window;
mod wire;
fn main() {}
