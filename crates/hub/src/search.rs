//! Finding repositories.

use crate::api::RepoInfo;
use crate::http::Ask;
use crate::{Hub, HubError, RepoKind};

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub kind: RepoKind,
    /// Words of the name.
    pub text: Option<String>,
    pub author: Option<String>,
    /// Tags that all of them have, such as `LeRobot`, `act`, `license:apache-2.0` or `so101`.
    pub tags: Vec<String>,
    pub sort: Sort,
    /// How many at most.
    pub limit: usize,
}

/// Which come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Trending,
    Downloads,
    Likes,
    Updated,
    Created,
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Self::Trending => "trendingScore",
            Self::Downloads => "downloads",
            Self::Likes => "likes",
            Self::Updated => "lastModified",
            Self::Created => "createdAt",
        }
    }
}

impl Hub {
    /// Repositories that fit, the first ones of the order that is asked for.
    ///
    /// # Errors
    /// When the Hub can't be reached, or its answer is none.
    pub fn search(&self, search: &Search) -> Result<Vec<RepoInfo>, HubError> {
        let doing = format!("searching the {}s", search.kind);
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let mut url = http.url(["api", search.kind.plural()])?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(search.text.iter().map(|text| ("search", text)));
            query.extend_pairs(search.author.iter().map(|author| ("author", author)));
            query.extend_pairs(search.tags.iter().map(|tag| ("filter", tag)));
            query.append_pair("sort", search.sort.word()).append_pair("direction", "-1");
            query.append_pair("limit", &search.limit.clamp(1, 1000).to_string()).append_pair("full", "true");
            if search.kind == RepoKind::Model {
                query.append_pair("cardData", "true");
            }
        }
        let mut found: Vec<RepoInfo> = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next.take().filter(|_| found.len() < search.limit) {
            let (page, more): (Vec<RepoInfo>, _) = self.wait(http.page(&Ask::get(url, doing.clone())))??;
            if !page.is_empty() {
                next = more;
            }
            found.extend(page);
        }
        found.truncate(search.limit);
        Ok(found)
    }
}
