// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace sluice::thumbnailer {

/// A small file of each format whose library loads something when it is first needed: plugins, fonts, character sets.
std::span<const std::string_view> samples();

}  // namespace sluice::thumbnailer
