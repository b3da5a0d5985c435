//! `moormq passwd`: adds, changes and removes users of password files and SCRAM files.

use std::io::{self, BufRead, IsTerminal, stdin};
use std::path::PathBuf;

use moormq::control::entry_file::{FileProblem, rewrite};
use moormq::hooks::stock::{
    PasswordTable, ScramCredentials, ScramTable, StoredPassword, check_user, remove_entry, set_entry,
};

/// The arguments of `moormq passwd`.
#[derive(clap::Args)]
pub struct PasswdArgs {
    /// Remove the user
    #[arg(long)]
    delete: bool,
    /// The file is one for SCRAM-SHA-256 (scram_file) instead of one for passwords (password_file)
    #[arg(long)]
    scram: bool,
    /// How often a SCRAM client has to hash its password to derive the keys from it
    #[arg(
        long,
        value_name = "N",
        requires = "scram",
        conflicts_with = "delete",
        default_value_t = ScramCredentials::DEFAULT_ITERATIONS,
        value_parser = clap::value_parser!(u32).range(4096..=10_000_000),
    )]
    iterations: u32,
    /// The file; it is made if it is not there
    file: PathBuf,
    /// The user name
    user: String,
}

/// Carries out the change. Returns a line that says what was changed.
pub fn run(args: &PasswdArgs) -> Result<String, String> {
    check_user(&args.user).map_err(|error| error.to_string())?;
    let done = if args.delete { delete(args)? } else { set(args)? };
    Ok(format!("{}: user {} {done}\n", args.file.display(), args.user))
}

fn delete(args: &PasswdArgs) -> Result<&'static str, String> {
    let remove = |text: &str| {
        let missing = || FileProblem::Refused(format!("has no user {}", args.user));
        remove_entry(text, &args.user).ok_or_else(missing)
    };
    if !args.file.exists() {
        return Err(format!("{}: there is no such file", args.file.display()));
    }
    rewrite(&args.file, remove).map_err(|error| error.to_string())?;
    Ok("removed")
}

fn set(args: &PasswdArgs) -> Result<&'static str, String> {
    let password = ask()?;
    let mut changed = false;
    let value = match args.scram {
        false => StoredPassword::argon2id(password.as_bytes(), random()?)?,
        true => {
            let salt = random::<{ ScramCredentials::SALT_LEN }>()?;
            ScramCredentials::derive(&password, &salt, args.iterations)?.to_string()
        }
    };
    let secret = random()?;
    let set = |text: &str| {
        changed = remove_entry(text, &args.user).is_some();
        let mut text = set_entry(text, &args.user, &value);
        if args.scram {
            text.insert_str(0, &ScramTable::decoy_line(&text, secret).unwrap_or_default());
            ScramTable::parse(&text, secret).map(drop)
        } else {
            PasswordTable::parse(&text).map(drop)
        }
        .map_err(FileProblem::Lines)?;
        Ok(text)
    };
    rewrite(&args.file, set).map_err(|error| error.to_string())?;
    Ok(if changed { "changed" } else { "added" })
}

/// The new password: asked for twice on a terminal, without echo; otherwise the first line of standard input.
fn ask() -> Result<String, String> {
    let password = if stdin().is_terminal() {
        let ask = |prompt| rpassword::prompt_password(prompt).map_err(unreadable);
        let password = ask("New password: ")?;
        if ask("Once more: ")? != password {
            return Err("the two passwords are not the same".to_owned());
        }
        password
    } else {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map_err(unreadable)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    };
    match password.len() {
        0 => Err("the password must not be empty".to_owned()),
        1..=65535 => Ok(password),
        _ => Err("the password must not be longer than 65535 bytes, which is what MQTT can carry".to_owned()),
    }
}

fn unreadable(error: io::Error) -> String {
    format!("cannot read the password: {error}")
}

/// Secure random bytes.
fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(bytes)
}
