//! `millrace tokens add`: a new token for the API, its hash into the API's file of tokens, itself to the terminal, once.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, process::ExitCode};

use millrace_api::TokenFile;
use nix::unistd::geteuid;

use crate::{
    arguments::{TokensArguments, TokensCommand},
    prerequisite::Prerequisite,
};

/// Adds a token.
///
/// # Errors
/// A file that cannot be used or written, or a name that does not fit into a line.
pub fn run(arguments: &TokensArguments) -> anyhow::Result<ExitCode> {
    let TokensCommand::Add { file, name, role } = &arguments.command;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Prerequisite(format!("{name:?}: a name without spaces, please")).into());
    }
    let known = file.exists().then(|| TokenFile::at(file).has(name)).transpose();
    if known.map_err(|error| Prerequisite(error.to_string()))? == Some(true) {
        let (file, why) = (file.display(), "choose another name, or delete its line first");
        return Err(Prerequisite(format!("{file}: a token called {name} is there: {why}")).into());
    }
    let (line, token) = TokenFile::new_token((*role).into(), name);
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let cannot = |error| Prerequisite(format!("{}: {error}", file.display()));
    let mut open = options.open(file).map_err(cannot)?;
    let ends_open =
        fs::read_to_string(file).is_ok_and(|text| !text.is_empty() && !text.ends_with('\n'));
    let start = if ends_open { "\n" } else { "" };
    open.write_all(format!("{start}{line}\n").as_bytes())?;
    open.sync_all()?;
    crate::output::note(format_args!(
        "{}: a line for {name}; delete it to end the token. The token, shown this once:",
        file.display()
    ));
    if geteuid().is_root() {
        crate::output::note(format_args!(
            "the API's user must be able to read the file: chown root:millrace {0} && chmod 640 {0}",
            file.display()
        ));
    }
    crate::output::deliver(format_args!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use millrace_api::Role;

    use super::*;
    use crate::arguments::TokenRole;

    #[test]
    fn tokens_are_added_to_a_file_that_only_its_owner_can_read() {
        let file = std::env::temp_dir().join(format!("millrace-add-token-{}", std::process::id()));
        let add = |name: &str, role| {
            let command = TokensCommand::Add { file: file.clone(), name: name.to_owned(), role };
            run(&TokensArguments { command })
        };
        add("wall", TokenRole::Read).unwrap();
        add("ci", TokenRole::Write).unwrap();
        let spaced = add("two words", TokenRole::Read).unwrap_err();
        let twice = add("ci", TokenRole::Read).unwrap_err();
        let text = fs::read_to_string(&file).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let checked = TokenFile::at(&file).check();
        fs::remove_file(&file).unwrap();
        checked.unwrap();
        assert_eq!((mode, text.lines().count()), (0o600, 2));
        assert!(text.starts_with(Role::Read.as_str()) && text.contains(" ci\n"), "{text}");
        assert!(spaced.is::<Prerequisite>());
        assert!(twice.is::<Prerequisite>() && twice.to_string().contains("delete its line"));
    }
}
