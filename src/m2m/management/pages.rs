//! A list of the Management API, page by page.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use futures_core::Stream;
use http::Method;
use serde::de::DeserializeOwned;

use crate::m2m::{
    headers::Answer,
    management::{ManagementApi, error::ManagementError},
};

/// The items of a list, fetched page by page as they are asked for.
///
/// [`next`](Self::next) needs nothing else; it is a [`Stream`] as well. Pages are counted by
/// `page` and `page_size` against `Total-Number`, since the URLs in Logto's `Link` header lead
/// nowhere. An item that is added or deleted meanwhile may shift others over the edge of a page.
///
/// An error ends the list. [`resume`](Self::resume) goes on with the page that failed.
pub struct Pages<T> {
    api: ManagementApi,
    path: Box<str>,
    page_size: u32,
    /// The page that is fetched next, from 1.
    page: u64,
    received: u64,
    total: Option<u64>,
    items: vec::IntoIter<T>,
    fetching: Option<Fetching>,
    ended: bool,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Answer, ManagementError>> + Send>>;

impl<T> Pages<T> {
    pub(crate) fn new(api: ManagementApi, path: &str) -> Self {
        Self {
            api,
            path: path.into(),
            page_size: MAX_PAGE_SIZE,
            page: 1,
            received: 0,
            total: None,
            items: Vec::new().into_iter(),
            fetching: None,
            ended: false,
        }
    }

    /// Items per page, from 1 to 100; 100 by default, which is Logto's most.
    #[must_use]
    pub fn page_size(mut self, items: u32) -> Self {
        self.page_size = items.clamp(1, MAX_PAGE_SIZE);
        self
    }

    /// How many items there are on all pages, once the first page is there.
    #[must_use]
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    /// Lets a list that ended with an error go on: the next item is the first of the page that
    /// failed.
    pub const fn resume(&mut self) {
        self.ended = false;
    }
}

impl<T: DeserializeOwned + Send + 'static> Pages<T> {
    /// The next item; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, ManagementError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, ManagementError>>> {
        loop {
            if let Some(item) = self.items.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let path = self.path_of_page();
            let fetching = self.fetching.get_or_insert_with(|| fetch(self.api.clone(), path));
            let answer = ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
            if let Err(error) = answer.and_then(|answer| self.take_in(&answer)) {
                self.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn take_in(&mut self, answer: &Answer) -> Result<(), ManagementError> {
        let (items, total) = (answer.json::<Vec<T>>()?, answer.total());
        self.received += items.len() as u64;
        // A list without Total-Number is not paged: Logto sends it whole.
        self.ended = items.is_empty() || total.is_none_or(|total| self.received >= total);
        self.total = total;
        self.page += 1;
        self.items = items.into_iter();
        Ok(())
    }

    fn path_of_page(&self) -> String {
        let (path, page, page_size) = (&self.path, self.page, self.page_size);
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}page={page}&page_size={page_size}")
    }
}

/// Items are moved out, never pinned in place.
impl<T> Unpin for Pages<T> {}

impl<T: DeserializeOwned + Send + 'static> Stream for Pages<T> {
    type Item = Result<T, ManagementError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("path", &self.path)
            .field("page", &self.page)
            .field("page_size", &self.page_size)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

fn fetch(api: ManagementApi, path: String) -> Fetching {
    Box::pin(async move { api.call(Method::GET, &path, None).await })
}

const MAX_PAGE_SIZE: u32 = 100;
