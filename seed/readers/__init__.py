"""Files of any format, a record at a time; what their columns mean is no matter here."""
