//! `moormq store`, the real program, on stores that a real broker has written, and on such as are damaged here.

mod backups;
mod broker;
mod compaction;
mod damage;
mod format;
mod import;
mod import_mqtt;
mod online;
mod pages;
mod refusals;
mod tool;
