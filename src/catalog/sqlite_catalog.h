// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "catalog/catalog.h"

namespace sluice::catalog {

/// A catalog in one SQLite file on a local disk, with its -wal and -shm beside it; made if it is missing, in a
/// directory that exists. One process at a time writes it.
///
/// Changes go through one connection and wait for each other's fsync; reads go through connections of their own and
/// wait for neither. A change that failed with 507 did not happen. One that failed with 500 did not happen as far as
/// this process can see, but may show once the file is opened again, if the failure struck while committing.
///
/// Fails with a 500 that says why when the file is damaged, is not a catalog, or comes from a newer Sluice.
Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::string& path);

}  // namespace sluice::catalog
