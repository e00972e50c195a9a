"""Gradio's theme in the page's colours, which style.css names for our own HTML. System fonts: nothing is fetched."""

from __future__ import annotations

import gradio as gr

FONTS = ["system-ui", "-apple-system", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC",
         "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
# Name → colour in light and in dark.
COLOURS = {
    "body_background_fill": ("#f6f7f5", "#0e1417"), "body_text_color": ("#16202a", "#e7eef0"),
    "body_text_color_subdued": ("#51606e", "#a3b3bb"), "block_info_text_color": ("#51606e", "#a3b3bb"),
    "block_label_text_color": ("#51606e", "#a3b3bb"), "block_title_text_color": ("#16202a", "#e7eef0"),
    "block_background_fill": ("#ffffff", "#161e22"), "input_background_fill": ("#f6f7f5", "#0e1417"),
    "border_color_primary": ("#dde3e1", "#2b363c"), "button_primary_background_fill": ("#0f6b63", "#6fe3d4"),
    "button_primary_background_fill_hover": ("#0b544e", "#8ff0e3"), "button_primary_text_color": ("#ffffff", "#04211d"),
    "slider_color": ("#0d9488", "#2dd4bf"),
}


def theme() -> gr.themes.Base:
    return gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", radius_size="lg", font=FONTS,
                          font_mono=MONO).set(**{name: light for name, (light, _) in COLOURS.items()},
                                              **{f"{name}_dark": dark for name, (_, dark) in COLOURS.items()})
