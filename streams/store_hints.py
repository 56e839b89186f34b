"""What to do about a Postgres that lets nobody in: libpq says what is wrong, and not which setting to look at."""

_HINTS = (
    ("password authentication failed", "check the user in `store`, and store_password or store_password_file"),
    ("no password supplied", "set store_password, or store_password_file to a file that holds it"),
    ("no pg_hba.conf entry", "if the server takes encrypted connections only, put sslmode=verify-full into `store`; "
     "if not, the server must admit this user from this address"),
    ("pg_hba.conf rejects", "put sslmode=verify-full into `store`, if the server takes encrypted connections only"),
    ("certificate has expired", "renew the server's certificate (and look at the clock here)"),
    ("certificate verify failed", "the server's certificate has expired, or is not signed by the authority in "
     "sslrootcert; put sslrootcert=FILE of the right one into `store`"),
    ("does not match host name", "put the name in the server's certificate into `store`"),
    ("root certificate file", "put sslrootcert=FILE into `store`, or sslrootcert=system for the authorities of this "
     "system"),
    ("certificate file", "see sslcert and sslkey in `store`"),
    ("private key file", "see sslkey and sslpassword in `store`; others must not be able to read the file"),
    ("server does not support SSL", "this server has no TLS; take sslmode out of `store` if the network is trusted"),
    ("authentication method requirement", "the server asks for the password in the clear and has not proven who it "
     "is; put sslmode=verify-full into `store`"),
    (" alert ", "the server does not accept the client certificate; see sslcert and sslkey in `store`"),
    ("certificate authentication failed", "see sslcert and sslkey in `store`"),
    ("requires a valid client certificate", "put sslcert=FILE and sslkey=FILE into `store`"),
)  # fmt: skip


def hint(said: str) -> str:
    """What to do about what libpq said; empty where only waiting helps.

    >>> hint('FATAL: password authentication failed for user "x"')
    'check the user in `store`, and store_password or store_password_file'
    >>> hint("Connection refused")
    ''
    """
    return next((what for words, what in _HINTS if words in said), "")
