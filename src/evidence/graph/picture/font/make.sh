#!/usr/bin/env bash
# Makes DejaVuSans-subset.ttf: see README.md. Needs fonts-dejavu-core 2.37 and fonttools (pip).
set -euo pipefail
cd "$(dirname "$0")"
pyftsubset /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf --output-file=DejaVuSans-subset.ttf \
    --unicodes="U+0020-007E,U+00A0-017F,U+0384-03CE,U+2010-2015,U+2018-201F,U+2022,U+2026,U+2070,U+2074-207B,U+20AC,U+2190-2193,U+2212,U+2260,U+2264,U+2265,U+25B2,U+25BC" \
    --no-hinting --layout-features='' --notdef-outline --no-glyph-names --name-IDs=0,1,2,3,4,5,6,13,14 \
    --drop-tables+=FFTM,MATH,GSUB,GPOS,GDEF,gasp
