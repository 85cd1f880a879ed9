//! Where packages come from: what the operator has told pip and uv, made into a list of places that may be reached and
//! variables for an installer that sees neither the operator's files nor folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Settings of pip that say where packages are and how to get there; others could undo what is decided here.
const OF_PIP: [&str; 13] = [
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "client-cert",
    "timeout",
    "default-timeout",
    "retries",
    "pre",
    "prefer-binary",
    "constraint",
];
/// Sections of its configuration, a later one above those before it.
const SECTIONS: [&str; 3] = ["global.", "install.", ":env:."];
/// The same of uv, with the names that it gives to indexes and their credentials.
const OF_UV: [&str; 10] = [
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT",
    "UV_PRERELEASE",
];
const CERTIFICATES: [&str; 4] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];
/// Public indexes, and where their files are.
const FILES_OF: [(&str, &str); 2] = [
    ("pypi.org", "files.pythonhosted.org"),
    ("test.pypi.org", "test-files.pythonhosted.org"),
];
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Has no `Debug`: the variables may hold credentials.
#[derive(Default)]
pub(super) struct Index {
    pub(super) places: BTreeSet<Place>,
    pub(super) variables: BTreeMap<String, String>,
    /// Files and folders of this machine that the installer needs.
    pub(super) paths: Vec<PathBuf>,
    /// The proxy that pip is configured to use.
    pub(super) proxy: Option<String>,
}

impl Index {
    /// By what `pip config list` says, one line a setting, and our own environment.
    pub(super) fn of_pip(config: &[String], environment: &BTreeMap<String, String>) -> Self {
        let mut settings = BTreeMap::new();
        for section in SECTIONS {
            let lines = config.iter().filter_map(|line| line.strip_prefix(section));
            settings.extend(lines.filter_map(setting));
        }
        let mut index = Self {
            proxy: settings.get("proxy").cloned(),
            ..Self::default()
        };
        let get = |name: &str| settings.get(name).map_or("", String::as_str);
        if !is_true(get("no-index")) {
            let main = Some(get("index-url")).filter(|url| !url.is_empty());
            index.add_servers(main.unwrap_or("https://pypi.org/simple"));
            index.add_servers(get("extra-index-url"));
        }
        index.add_servers(get("find-links"));
        for name in ["find-links", "cert", "client-cert", "constraint"] {
            index.add_paths(get(name));
        }
        for name in OF_PIP {
            if let Some(value) = settings.get(name) {
                let variable = format!("PIP_{}", name.to_uppercase().replace('-', "_"));
                index.variables.insert(variable, value.clone());
            }
        }
        // Its files are out of sight; what they say is in the variables.
        let no_file = ("PIP_CONFIG_FILE".to_owned(), "/dev/null".to_owned());
        index.variables.extend([no_file]);
        index.trust(environment);
        index
    }

    /// uv reads its own variables, and no configuration of pip's.
    pub(super) fn of_uv(environment: &BTreeMap<String, String>) -> Self {
        let mut index = Self::default();
        let get = |name: &str| environment.get(name).map_or("", String::as_str);
        if !is_true(get("UV_NO_INDEX")) {
            let main = [get("UV_DEFAULT_INDEX"), get("UV_INDEX_URL")];
            let main = main.into_iter().find(|url| !url.is_empty());
            index.add_servers(main.unwrap_or("https://pypi.org/simple"));
            index.add_servers(get("UV_EXTRA_INDEX_URL"));
            index.add_servers(get("UV_INDEX"));
        }
        index.add_servers(&get("UV_FIND_LINKS").replace(',', " "));
        index.add_paths(&get("UV_FIND_LINKS").replace(',', " "));
        let ours = environment
            .iter()
            .filter(|(name, _)| OF_UV.iter().any(|prefix| name.starts_with(prefix)));
        let ours = ours.map(|(name, value)| (name.clone(), value.clone()));
        index.variables.extend(ours);
        index
            .variables
            .extend([("UV_NO_CONFIG".to_owned(), "1".to_owned())]);
        index.trust(environment);
        index
    }

    /// `host` or `host:port`
    pub(super) fn also(&mut self, host: &str) {
        match host.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok();
                self.places.extend(port.map(|port| place(host, port)));
            }
            None => self.places.extend([place(host, HTTPS)]),
        }
    }

    fn trust(&mut self, environment: &BTreeMap<String, String>) {
        for name in CERTIFICATES {
            if let Some(value) = environment.get(name) {
                self.add_paths(value);
                self.variables.insert(name.to_owned(), value.clone());
            }
        }
    }

    fn add_servers(&mut self, words: &str) {
        for word in words.split_whitespace() {
            let Some(found) = place_of(word) else {
                continue;
            };
            let files = FILES_OF.iter().find(|(index, _)| *index == found.host);
            let files = files.map(|(_, files)| place(files, HTTPS));
            self.places.extend(files);
            self.places.insert(found);
        }
    }

    fn add_paths(&mut self, words: &str) {
        let paths = words.split_whitespace();
        let paths = paths.map(|word| Path::new(word.strip_prefix("file://").unwrap_or(word)));
        let here = paths.filter(|path| path.is_absolute() && path.exists());
        self.paths.extend(here.map(ToOwned::to_owned));
    }
}

fn place(host: &str, port: u16) -> Place {
    Place {
        host: host.trim_end_matches('.').to_ascii_lowercase(),
        port,
    }
}

impl Place {
    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn parse(authority: &str, usual: u16) -> Option<Self> {
        let after_bracket = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[after_bracket..].rfind(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(after_bracket + colon);
                (host, port[1..].parse().ok()?)
            }
            None => (authority, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| place(host, port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// Of an URL, which may have credentials, and in uv's variables a name in front: `name=https://…`.
fn place_of(url: &str) -> Option<Place> {
    let (scheme, rest) = url.split_once("://")?;
    let usual = match scheme.rsplit(['=', '+']).next()? {
        "http" => HTTP,
        "https" => HTTPS,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_credentials, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    Place::parse(authority, usual)
}

/// One line of `pip config list`, `name='value'` as Python writes it.
fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let value = value.strip_prefix(quote)?.strip_suffix(quote)?;
    let (mut plain, mut letters) = (String::new(), value.chars());
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                'n' | 'r' | 't' => ' ',
                other => other,
            },
            letter => letter,
        });
    }
    Some((name.to_owned(), plain.trim().to_owned()))
}

fn is_true(word: &str) -> bool {
    matches!(
        word.to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on" | "y" | "t"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    fn places(index: &Index) -> Vec<String> {
        index.places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_word_it_is_the_public_index_and_its_files() {
        let expected = ["files.pythonhosted.org:443", "pypi.org:443"];
        let nothing = BTreeMap::new();
        assert_eq!(places(&Index::of_pip(&[], &nothing)), expected);
        assert_eq!(places(&Index::of_uv(&nothing)), expected);
    }

    #[test]
    fn what_pip_is_configured_with_is_reached_and_nothing_else() {
        let config = lines(&[
            ":env:.index-url='https://me:p%40ss@index.example.org/simple'",
            "global.index-url='https://pypi.org/simple'",
            "global.extra-index-url='\\nhttp://[fd00::1]:3141/root\\nhttps://b.example.org.'",
            "global.target='/etc'",
            "install.no-binary=':all:'",
        ]);
        let index = Index::of_pip(&config, &BTreeMap::new());
        assert_eq!(
            places(&index),
            [
                "b.example.org:443",
                "[fd00::1]:3141",
                "index.example.org:443"
            ]
        );
        let names: Vec<&str> = index.variables.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"]
        );
        assert_eq!(
            index.variables["PIP_EXTRA_INDEX_URL"],
            "http://[fd00::1]:3141/root https://b.example.org."
        );
    }

    #[test]
    fn no_index_is_no_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let links = format!("global.find-links='{}'", folder.path().display());
        let config = lines(&[":env:.no-index='1'", &links]);
        let index = Index::of_pip(&config, &BTreeMap::new());
        assert!(index.places.is_empty());
        assert_eq!(index.paths, [folder.path()]);
    }

    #[test]
    fn uv_has_names_for_indexes_and_does_not_ask_pip() {
        let environment = [
            ("UV_INDEX", "inner=https://u:p@uv.example.org:8443/simple"),
            ("UV_INDEX_INNER_PASSWORD", "p"),
            ("PIP_INDEX_URL", "https://pip.example.org"),
            ("UV_CACHE_DIR", "/var/cache"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let index = Index::of_uv(&environment.into());
        assert_eq!(
            places(&index),
            [
                "files.pythonhosted.org:443",
                "pypi.org:443",
                "uv.example.org:8443"
            ]
        );
        assert!(index.variables.contains_key("UV_INDEX_INNER_PASSWORD"));
        assert!(!index.variables.contains_key("UV_CACHE_DIR"));
    }
}
