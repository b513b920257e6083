# SPDX-License-Identifier: Apache-2.0
"""What the drawings in docs/ have in common: SVG that follows the reader's colour scheme."""

# Colours that carry on white and on black; text and lines follow the reader's scheme.

STYLE = """
    .ink { fill: #1f2328 } .soft { fill: #59636e } .line { stroke: #d1d9e0 } .panel { fill: #ffffff }
    .upload { fill: #8c959f } .wait { fill: url(#hatch) } .hatch { stroke: #afb8c1 } .play { fill: #1a7f6e }
    .mark { fill: #bc4c00 } .marked { stroke: #bc4c00 }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
    .title { font-size: 17px; font-weight: 600 } .name { font-weight: 600 } .small { font-size: 12px }
    @media (prefers-color-scheme: dark) {
      .ink { fill: #f0f6fc } .soft { fill: #9198a1 } .line { stroke: #3d444d } .panel { fill: #0d1117 }
      .upload { fill: #656c76 } .hatch { stroke: #515962 } .play { fill: #2da58f }
      .mark { fill: #f0883e } .marked { stroke: #f0883e }
    }"""


def label(x, y, text, kind="ink", anchor="start"):
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def page(width, height, title, parts):
    """A whole SVG file; `parts` are its elements."""
    body = "\n  ".join([f'<rect class="panel" width="{width}" height="{height}" rx="10"/>', *parts])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">
  <title>{title}</title>
  <style>{STYLE}
  </style>
  <defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
    <line class="hatch" x1="0" y1="0" x2="0" y2="7" stroke-width="3"/></pattern></defs>
  {body}
</svg>
"""
