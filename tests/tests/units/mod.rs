//! The unit files in `systemd/`: systemd itself reads them without a word of complaint, what they name exists, and a program
//! started by its unit's own command line speaks with its supervisor as `Type=notify` and `WatchdogSec=` need it.

mod exit_codes;
mod files;
mod supervised;
mod unit;
mod verify;
