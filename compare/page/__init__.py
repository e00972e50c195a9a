"""The Gradio page, one file a tab. Knows no torch: it asks the engine and draws what comes back."""
