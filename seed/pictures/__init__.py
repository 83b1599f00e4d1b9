"""Where the pictures of products come from: files, archives, links."""
