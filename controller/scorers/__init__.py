"""How likely is each drafted node, given that its parent was taken? One file per answer."""
