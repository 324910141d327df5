-module(hackney_native_url_tests).

-include_lib("eunit/include/eunit.hrl").

parts(URL) ->
    {ok, #{scheme := S, host := H, port := P, path := Path}} = hackney_native_url:parse(URL),
    {S, H, P, Path}.

parse_test_() ->
    [?_assertEqual({https, <<"h">>, 443, <<"/">>}, parts("https://h")),
     ?_assertEqual({https, <<"h">>, 443, <<"/">>}, parts(<<"HTTPS://h">>)),
     ?_assertEqual({https, <<"h">>, 8443, <<"/a/b?c=d">>}, parts("https://h:8443/a/b?c=d#e?f")),
     ?_assertEqual({https, <<"h">>, 443, <<"/?c">>}, parts("https://h?c")),
     ?_assertEqual({https, <<"h">>, 443, <<"/">>}, parts("https://h#f")),
     ?_assertEqual({http, <<"h">>, 80, <<"/">>}, parts("h")),
     ?_assertEqual({https, <<"::1">>, 443, <<"/">>}, parts("https://[::1]")),
     ?_assertEqual({https, <<"::1">>, 99, <<"/x">>}, parts("https://[::1]:99/x")),
     ?_assertEqual({https, <<"h">>, 443, <<"/@:">>}, parts("https://h:/@:"))].

refused_test_() ->
    [?_assertEqual({error, {invalid_url, U}}, hackney_native_url:parse(U))
     || U <- ["https://", "https:///x", "https://h:0", "https://h:65536", "https://h:x", "https://[::1", "https://[h]",
              "https://user:pw@h/", "https://h h/", "https://h\r\nx/", "https://b\x{fc}cher/", <<255>>]]
        ++ [?_assertEqual({error, {scheme_not_supported, ftp}}, hackney_native_url:parse("ftp://h/")),
            ?_assertEqual({error, {badarg, {url, atom}}}, hackney_native_url:parse(atom))].

a_strange_scheme_makes_no_atom_test() ->
    Scheme = "x" ++ integer_to_list(erlang:unique_integer([positive])) ++ "y",
    ?assertEqual({error, {scheme_not_supported, unknown}}, hackney_native_url:parse(Scheme ++ "://h/")),
    ?assertError(badarg, list_to_existing_atom(Scheme)).

authority_test_() ->
    [?_assertEqual(<<"h">>, hackney_native_url:authority(https, <<"h">>, 443)),
     ?_assertEqual(<<"h:80">>, hackney_native_url:authority(https, <<"h">>, 80)),
     ?_assertEqual(<<"h">>, hackney_native_url:authority(http, <<"h">>, 80)),
     ?_assertEqual(<<"[::1]:8443">>, hackney_native_url:authority(https, <<"::1">>, 8443))].
