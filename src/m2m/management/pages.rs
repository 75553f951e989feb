//! Fetches a list from the Management API page by page.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use futures_core::Stream;
use http::Method;
use serde::de::DeserializeOwned;

use crate::m2m::management::{
    client::ManagementClient, error::ManagementError, response::ManagementResponse,
};

/// The items of a list, which are fetched page by page as you ask for them.
///
/// Call [`next`](Self::next), or use `Pages` as a [`Stream`]. The number of pages follows from
/// `page_size` and the header `Total-Number`. `Pages` ignores Logto's `Link` header, because the
/// URLs in that header are wrong. If items are added or deleted while you read the list, an item
/// may be missing or appear twice.
///
/// An error ends the list. [`resume`](Self::resume) continues with the page that failed.
///
/// ```
/// use serde_json::Value;
/// use tower_logto::m2m::{ManagementApi, ManagementError};
///
/// async fn users(api: &ManagementApi) -> Result<Vec<Value>, ManagementError> {
///     let mut pages = api.pages("/api/users");
///     let mut users = Vec::new();
///     while let Some(user) = pages.next().await {
///         users.push(user?);
///     }
///     Ok(users)
/// }
/// ```
pub struct Pages<T> {
    client: Arc<ManagementClient>,
    path: String,
    page_size: u32,
    /// The number of the next page. The first page has the number 1.
    page: u64,
    /// The number of items on the pages that have arrived.
    received: u64,
    total: Option<u64>,
    /// The items of the latest page, without the items that were already returned.
    items: vec::IntoIter<T>,
    /// The request in flight.
    next_page: Option<PageFuture>,
    /// Whether the last page has arrived or a page has failed. No further page is then fetched.
    ended: bool,
}

type PageFuture = Pin<Box<dyn Future<Output = Result<ManagementResponse, ManagementError>> + Send>>;

impl<T> Pages<T> {
    pub(crate) fn new(client: Arc<ManagementClient>, path: String) -> Self {
        Self {
            client,
            path,
            page_size: MAX_PAGE_SIZE,
            page: 1,
            received: 0,
            total: None,
            items: Vec::new().into_iter(),
            next_page: None,
            ended: false,
        }
    }

    /// Sets the number of items per page, from 1 to 100. Default: 100, Logto's maximum.
    pub fn page_size(mut self, items: u32) -> Self {
        self.page_size = items.clamp(1, MAX_PAGE_SIZE);
        self
    }

    /// Returns the number of items on all pages. Returns `None` until the first page has arrived,
    /// and for a list that Logto does not divide into pages.
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    /// Continues a list that ended with an error. The next item is the first item of the page that
    /// failed.
    pub const fn resume(&mut self) {
        self.ended = false;
    }
}

impl<T: DeserializeOwned + Send + 'static> Pages<T> {
    /// Returns the next item, or `None` at the end.
    ///
    /// # Cancel safety
    /// This method is cancel safe. The next call continues the request in flight.
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
            let path = self.page_path();
            let next_page =
                self.next_page.get_or_insert_with(|| fetch(Arc::clone(&self.client), path));
            let response = ready!(next_page.as_mut().poll(cx));
            self.next_page = None;
            if let Err(error) = response.and_then(|response| self.take_page(&response)) {
                self.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn take_page(&mut self, response: &ManagementResponse) -> Result<(), ManagementError> {
        let (items, total) = (response.json::<Vec<T>>()?, response.total());
        self.received += items.len() as u64;
        // If the response has no Total-Number, Logto has sent the whole list as one page.
        self.ended = items.is_empty() || total.is_none_or(|total| self.received >= total);
        self.total = total;
        self.page += 1;
        self.items = items.into_iter();
        Ok(())
    }

    fn page_path(&self) -> String {
        let (path, page, page_size) = (&self.path, self.page, self.page_size);
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}page={page}&page_size={page_size}")
    }
}

/// `Pages` is `Unpin` for every `T`, because it moves items out of the list and never pins them.
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

fn fetch(client: Arc<ManagementClient>, path: String) -> PageFuture {
    Box::pin(async move { client.call(Method::GET, &path, None).await })
}

const MAX_PAGE_SIZE: u32 = 100;
