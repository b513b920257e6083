// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "thumbnails/job.h"

namespace sluice::thumbnailer {

/// Initialises the libraries, once, before the first answer. With `warm_up`, also decodes a small picture of each kind,
/// so that what libraries load when it is first needed has been loaded.
void start_worker(bool warm_up);

/// Does one job: the thumbnail is written to `result` from its beginning. Any content of the source has an answer; what
/// takes too long or too much memory ends the process.
thumbnails::Reply answer(const thumbnails::Job& job, int source, int result);

}  // namespace sluice::thumbnailer
