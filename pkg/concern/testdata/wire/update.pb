
valuepaths