//! The tables `[[webhooks]]` of `par.toml`: who is told what happens.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr;

use toml::de::DeValue;

use super::table::{Notes, Value};
use crate::events::webhooks::{Secret, Target, Webhook};

const KNOWN: [&str; 5] = ["url", "secret", "secret_file", "events", "agents"];

pub(super) fn read(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Vec<Webhook> {
    let DeValue::Array(entries) = value.get_ref() else {
        return notes
            .expected::<Vec<_>>(
                "webhooks",
                "a list of tables",
                value.get_ref(),
                value.span(),
            )
            .unwrap_or_default();
    };
    let mut webhooks: Vec<Webhook> = vec![];
    for entry in entries {
        let Some(webhook) = webhook(entry, folder, notes) else {
            continue;
        };
        if webhooks.iter().any(|other| other.target == webhook.target) {
            notes.note(&entry.span(), "another webhook has the same `url`");
        }
        webhooks.push(webhook);
    }
    webhooks
}

fn webhook(entry: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Option<Webhook> {
    let table = notes.table("webhooks", entry)?;
    let (mut target, mut kinds, mut agents) = (None, BTreeSet::new(), BTreeSet::new());
    let mut secrets: Vec<Option<Secret>> = vec![];
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match name {
            "url" => target = text_of::<Target>(name, value, notes),
            "secret" => secrets.push(text_of(name, value, notes)),
            "secret_file" => secrets.push(secret_file(name, value, folder, notes)),
            "events" => kinds = list_of(name, value, notes),
            "agents" => agents = list_of(name, value, notes),
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    if !table.contains_key("url") {
        notes.note(&entry.span(), "a webhook needs a `url`");
    }
    if secrets.len() != 1 {
        let message = "a webhook needs either a `secret` or a `secret_file`";
        notes.note(&entry.span(), message);
    }
    Some(Webhook {
        target: target?,
        secret: secrets.pop().flatten()?,
        kinds,
        agents,
    })
}

/// The mistake is told without the text: it may be a secret.
fn text_of<T: FromStr<Err: std::fmt::Display>>(
    key: &str,
    value: &Value<'_>,
    notes: &mut Notes<'_>,
) -> Option<T> {
    let text = notes.text(key, value)?;
    text.parse()
        .map_err(|error: T::Err| notes.note(&value.span(), format!("`{key}`: {error}")))
        .ok()
}

fn secret_file(
    key: &str,
    value: &Value<'_>,
    folder: &Path,
    notes: &mut Notes<'_>,
) -> Option<Secret> {
    let path = folder.join(notes.path(key, value)?);
    read_secret(&path)
        .map_err(|why| {
            let message = format!("`{key}`: `{}` {why}", path.display());
            notes.note(&value.span(), message);
        })
        .ok()
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err("can be read by others: `chmod 600` it".to_owned());
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    text.trim_end_matches(['\r', '\n'])
        .parse()
        .map_err(|error| format!("cannot be used: {error}"))
}

fn list_of<T>(key: &str, value: &Value<'_>, notes: &mut Notes<'_>) -> BTreeSet<T>
where
    T: FromStr<Err: std::fmt::Display> + Ord,
{
    let DeValue::Array(words) = value.get_ref() else {
        return notes
            .expected::<BTreeSet<T>>(key, "a list of words", value.get_ref(), value.span())
            .unwrap_or_default();
    };
    if words.is_empty() {
        let message = format!("`{key}` is empty: leave it out for all");
        notes.note(&value.span(), message);
    }
    words
        .iter()
        .filter_map(|word| text_of(key, word, notes))
        .collect()
}

#[cfg(test)]
mod tests {
    use par_model::event::EventKind;
    use toml::de::DeTable;

    use super::super::Mistake;
    use super::*;

    fn parse(text: &str, folder: &Path) -> (Vec<Webhook>, Vec<Mistake>) {
        let mut mistakes = vec![];
        let mut notes = Notes {
            name: "par.toml".to_owned(),
            text,
            mistakes: &mut mistakes,
        };
        let table = DeTable::parse(text).expect("TOML");
        let webhooks = table.get_ref().get("webhooks").expect("they are there");
        let webhooks = read(webhooks, folder, &mut notes);
        (webhooks, mistakes)
    }

    #[test]
    fn a_webhook_is_read_with_its_secret_from_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        fs::write(&file, "whsec_aHVudGVyMg==\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        let text = "[[webhooks]]\nurl = 'http://127.0.0.1:9/x'\nsecret_file = 'secret'\nevents = ['crashed', 'ready']\nagents = ['a']\n[[webhooks]]\nurl = 'https://example.com'\nsecret = 'hunter2'\n";
        let (webhooks, mistakes) = parse(text, folder.path());
        assert_eq!(mistakes, []);
        assert_eq!(webhooks.len(), 2);
        assert_eq!(webhooks[0].secret, webhooks[1].secret);
        let kinds = BTreeSet::from([EventKind::Ready, EventKind::Crashed]);
        assert_eq!(webhooks[0].kinds, kinds);
        assert_eq!(webhooks[0].agents.len(), 1);
        assert!(webhooks[1].kinds.is_empty() && webhooks[1].agents.is_empty());
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_no_secret() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = folder.path().join("open");
        fs::write(&open, "hunter2").expect("written");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("changed");
        let text = "[[webhooks]]\nurl = 'ftp://x/hunter2'\nsecret = 'whsec_hunter2!'\nevents = ['loud', 3]\nagents = []\ncolour = 1\n[[webhooks]]\nsecret_file = 'open'\n[[webhooks]]\nurl = 'http://x'\nsecret = 'a'\nsecret_file = 'gone'\n[[webhooks]]\nurl = 'http://y'\nsecret = 'a'\n[[webhooks]]\nurl = 'http://y'\nsecret = 'b'\n";
        let (_, mistakes) = parse(text, folder.path());
        let told: Vec<String> = mistakes
            .iter()
            .map(|mistake| format!("{}: {}", mistake.place, mistake.message))
            .collect();
        let told = told.join("\n");
        for part in [
            "par.toml:2:7: `url`: it begins neither",
            "par.toml:3:10: `secret`",
            "par.toml:4:11: `events`: `loud` is no kind of event",
            "par.toml:4:19: `events`",
            "par.toml:5:10: `agents` is empty",
            "par.toml:6:1: `colour` is not known",
            "needs a `url`",
            "chmod 600",
            "par.toml:12:15: `secret_file`",
            "either a `secret` or",
            "same `url`",
        ] {
            assert!(told.contains(part), "{part} is missing in:\n{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
}
