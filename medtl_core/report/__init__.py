"""From result records to what people read: tables, plots and one self-contained page."""
